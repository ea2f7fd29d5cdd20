"""What a reload sees of the files, and what it refuses because only a new process can take it."""

from pathlib import Path

import pytest

from sidecar.config import Configuration, Overrides
from sidecar.config.reloading import RELOADED
from sidecar.core.errors import ConfigError
from sidecar.core.policy import Settings
from tests.certify import Authority

MAIN = "upstreams: {api: {targets: ['http://127.0.0.1:9000']}}\npolicies: rules/\n"
BILLED = "billing: {cloud_events: {url: 'https://bills.example/events', token: '${TOKEN}'}}\n"
METERS = "meters: {calls: {count: requests, stripe_event: EVENT}}\nplans: {p: {price: {base: '1 USD', meters: {calls: {included: 0, per: 1, amount: '1 USD'}}}}}\n"  # noqa: E501 - one file


def made(folder: Path, main: str, meters: str) -> Configuration:
    (folder / "rules").mkdir()
    (folder / "rules" / "a.yaml").write_text(meters)
    (folder / "sidecar.yaml").write_text(main)
    return Configuration(folder / "sidecar.yaml", Overrides(), {"TOKEN": "a-token-of-some-length"})


def test_where_usage_is_reported_its_meters_stay(tmp_path: Path) -> None:
    """Whoever reports them was made at the start: a meter that it does not know would be served and never billed."""
    configuration = made(tmp_path, MAIN + BILLED, METERS.replace("EVENT", "calls"))
    first = configuration.load()
    (tmp_path / "rules" / "a.yaml").write_text(METERS.replace("EVENT", "other"))
    with pytest.raises(ConfigError, match="which of them are reported"):
        configuration.load(first)


def test_where_nothing_is_reported_they_may_change(tmp_path: Path) -> None:
    configuration = made(tmp_path, MAIN, METERS.replace("EVENT", "calls"))
    first = configuration.load()
    (tmp_path / "rules" / "a.yaml").write_text(METERS.replace("EVENT", "other"))
    assert configuration.load(first).meters["calls"].stripe_event == "other"


@pytest.mark.parametrize("change", ["more", "gone", "folder swapped"])
def test_every_kind_of_change_is_seen(tmp_path: Path, change: str) -> None:
    configuration = made(tmp_path, MAIN, METERS.replace("EVENT", "calls"))
    configuration.load()
    assert not configuration.settled()
    if change == "more":
        (tmp_path / "rules" / "b.yaml").write_text("tenants: {acme: {plan: p}}\n")
    elif change == "gone":
        (tmp_path / "rules" / "a.yaml").unlink()
    else:  # as Kubernetes does with a ConfigMap
        (tmp_path / "rules").rename(tmp_path / "old")
        (tmp_path / "new").mkdir()
        (tmp_path / "rules").symlink_to(tmp_path / "new")
    assert [configuration.settled(), configuration.settled()] == [False, True]


def test_a_file_that_was_refused_is_not_tried_until_it_changes(tmp_path: Path) -> None:
    configuration = made(tmp_path, MAIN, METERS.replace("EVENT", "calls"))
    first = configuration.load()
    (tmp_path / "rules" / "a.yaml").write_text("plans: 5\n")
    assert [configuration.settled(), configuration.settled()] == [False, True]
    with pytest.raises(ConfigError):
        configuration.load(first)
    assert [configuration.settled(), configuration.settled()] == [False, False]


def test_what_is_reloaded_are_settings() -> None:
    assert set(Settings.__dataclass_fields__) > RELOADED


def test_a_pair_that_was_refused_is_looked_at_again_when_it_changes(tmp_path: Path) -> None:
    """Certificate and key are two files: the watch may meet the one without the other, of listeners and upstreams."""
    authority = Authority(tmp_path)
    authority.sign("own")
    main = (
        "tls: {certificate: own.pem, key: own.key, client_ca: ca.pem}\n"
        'upstreams: {api: {targets: ["https://127.0.0.1:9"], tls: {certificate: own.pem, key: own.key, ca: ca.pem}}}\n'
        "policies: rules/\n"
    )
    configuration = made(tmp_path, main, METERS.replace("EVENT", "calls"))
    first = configuration.load()
    key = (tmp_path / "own.key").read_bytes()
    authority.sign("own")
    new = (tmp_path / "own.key").read_bytes()
    (tmp_path / "own.key").write_bytes(key)
    assert [configuration.settled(), configuration.settled()] == [False, True]
    with pytest.raises(ConfigError, match="is not that of the certificate"):
        configuration.load(first)
    (tmp_path / "own.key").write_bytes(new)
    assert [configuration.settled(), configuration.settled()] == [False, True]
    configuration.load(first)
    Authority(tmp_path)
    assert [configuration.settled(), configuration.settled()] == [False, True]
