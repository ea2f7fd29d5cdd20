"""Whatever a file holds is loaded or refused in order, in work that grows in line with it."""

import sys
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.config import load
from sidecar.core.errors import ConfigError
from tests.config.reading import FULL, UPSTREAM, read


def calls_for(routes: int, folder: Path) -> int:
    """How many Python calls it takes to load so many routes."""
    lines = [f"  - {{name: r{n}, match: {{path: '/v{n}/{{id}}'}}, units: {n % 5}, feature: f}}" for n in range(routes)]
    text = "plans: {p: {features: [f]}}\nroutes:\n" + "\n".join(lines) + "\n"
    counted = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal counted
        counted += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        snapshot = read(folder, text)
    finally:
        sys.setprofile(before)
    assert len(snapshot.routes) == routes
    return counted


def test_work_grows_in_line_with_routes(tmp_path: Path) -> None:
    """Four times the routes are four times the calls, not sixteen times."""
    assert calls_for(2_000, tmp_path) < 4.5 * calls_for(500, tmp_path)


KEYS = st.sampled_from(
    "listen admin token data policies upstreams api targets identity jwt plans free limits quotas meters routes name "
    "match path methods price base amount tenants costs units scope window limit << on".split()
) | st.text(max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "1s",
            "1m",
            "10 USD",
            "${A}",
            "${",
            "file:x",
            "/{a}",
            "GET",
            "tenant",
            "free",
            "api",
            "http://[",
            "http://a:b",
            "[::]:1",
        ]
    )
)
TREES = st.recursive(
    SCALARS, lambda tree: st.lists(tree, max_size=4) | st.dictionaries(KEYS, tree, max_size=5), max_leaves=20
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def survives(folder: Path, data: bytes) -> None:
    """Loads or raises ConfigError with at least one fault; nothing else."""
    path = folder / "any.yaml"
    path.write_bytes(data)
    try:
        snapshot = load(path, UPSTREAM, {"A": "1"})
    except ConfigError as error:
        assert error.faults
    else:
        assert snapshot.upstreams


@QUICK
@given(tree=TREES)
def test_any_tree_is_refused_in_order(tmp_path: Path, tree: object) -> None:
    survives(tmp_path, yaml.safe_dump(tree, allow_unicode=True).encode())


@QUICK
@given(text=st.text(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"%@#?,$ \n\t", max_size=40))
def test_any_text_is_refused_in_order(tmp_path: Path, text: str) -> None:
    survives(tmp_path, text.encode("utf-8", "surrogatepass"))


@QUICK
@given(data=st.binary(max_size=40))
def test_any_bytes_are_refused_in_order(tmp_path: Path, data: bytes) -> None:
    survives(tmp_path, data)


@QUICK
@given(cut=st.integers(0, len(FULL)))
def test_half_written_file_is_refused_in_order(tmp_path: Path, cut: int) -> None:
    survives(tmp_path, FULL[:cut].encode())
