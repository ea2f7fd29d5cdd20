"""Failures say everything once, in order."""

from sidecar.core.errors import ConfigError, Fault, UpstreamError


def test_all_faults_in_file_order_each_once() -> None:
    late, early, whole = (
        Fault("b.yaml", 9, "x.y", "is wrong"),
        Fault("a.yaml", 2, "", "is too"),
        Fault("a.yaml", 0, "p", "m"),
    )
    error = ConfigError([late, early, late, whole])
    assert error.faults == [whole, early, late]
    assert str(error) == "a.yaml: p: m\na.yaml:2: is too\nb.yaml:9: x.y: is wrong"


def test_an_upstream_error_has_its_kind() -> None:
    error = UpstreamError("busy", "at its capacity")
    assert (error.kind, str(error)) == ("busy", "at its capacity")
