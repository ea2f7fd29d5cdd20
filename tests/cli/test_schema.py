"""``sidecar schema``: the owner's URL comes from the environment alone; its password is in nothing that is printed."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import Sidecar
from tests.storage.postgres.server import PASSWORD, Database, shared_server


@pytest.fixture
def empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    with shared_server() as server:
        made = server.empty()
        parts = urlsplit(made.url)
        place = parts.netloc.rpartition("@")[2]
        (folder / "sidecar.yaml").write_text(
            f"storage: 'postgresql://{parts.username}:${{PG_PASSWORD}}@{place}{parts.path}'\n"
        )
        monkeypatch.setenv("PG_PASSWORD", PASSWORD)
        yield made
        server.drop(made)


def test_apply_makes_the_tables_and_show_tells(
    empty: Database, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(str(files("sidecar.storage.postgres") / "migrations"))
    numbers = list(range(1, len(list(folder.glob("*.sql"))) + 1))
    before = sidecar("schema", "show")
    assert (before.code, before.out.strip()) == (1, f"schema 0, to be applied: {', '.join(map(str, numbers))}")
    assert sidecar("tenants", "list").err.strip().endswith("run: sidecar schema apply")
    monkeypatch.setenv("SIDECAR_OWNER_URL", empty.owner_url)
    assert json.loads(sidecar("schema", "apply", "--json").out) == {"applied": numbers}
    assert sidecar("schema", "apply").out == "the schema is up to date\n"
    assert json.loads(sidecar("schema", "show", "--json").out) == {"version": numbers[-1], "pending": []}
    assert sidecar("tenants", "add", "acme", "--plan", "free").code == 0
    assert "acme" in sidecar("tenants", "list").out


def test_without_the_owners_url_nothing_is_done(empty: Database, sidecar: Sidecar) -> None:
    result = sidecar("schema", "apply")
    assert (result.code, result.out) == (1, "")
    assert "SIDECAR_OWNER_URL" in result.err
    assert sidecar("schema", "apply", "--owner", empty.owner_url).code == 2


def test_a_failure_does_not_tell_the_password(
    empty: Database, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDECAR_OWNER_URL", f"postgresql://nobody:{PASSWORD}@127.0.0.1:1/db")
    result = sidecar("schema", "apply")
    assert result.code == 1
    assert PASSWORD not in result.out + result.err
    assert "cannot be reached" in result.err


@pytest.mark.parametrize(
    "url",
    [
        "owner",
        "sqlite:///data/x",
        "postgresql://o:sec#ret@h/db",
        "postgresql://o:sec/ret@h/db",
        "postgresql://o:1/ret@h/db",
    ],
)
def test_a_url_that_ends_in_its_password_is_refused_unquoted(
    empty: Database, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """What stands before a raw # or / would be named as the host that cannot be reached."""
    monkeypatch.setenv("SIDECAR_OWNER_URL", url)
    result = sidecar("schema", "apply")
    assert (result.code, "percent-encoded" in result.err) == (1, True)
    assert "sec" not in result.err


def test_applying_to_another_database_than_the_one_in_storage_is_no_success(
    empty: Database, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_server() as server:
        other = server.empty()
        monkeypatch.setenv("SIDECAR_OWNER_URL", other.owner_url)
        result = sidecar("schema", "apply")
        server.drop(other)
    assert (result.code, result.out.startswith("applied 1")) == (1, True)
    assert "another database" in result.err


def test_a_sqlite_store_has_nothing_to_apply(folder: Path, sidecar: Sidecar) -> None:
    result = sidecar("schema", "show")
    assert result.code == 1
    assert "no PostgreSQL URL" in result.err
