"""``sidecar migrate``: an installation with a journal that a killed sidecar left, moved by its commands alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sidecar.core.clock import SystemClock
from sidecar.core.policy import JournalSettings
from sidecar.core.records import encode_record
from sidecar.ledger import Journal
from tests.cli.conftest import Sidecar
from tests.journals import begin, end
from tests.storage.postgres.records import record
from tests.storage.postgres.server import PASSWORD, Database, shared_server

MOVE = ("migrate", "--from", "sqlite:///data/sidecar.db")
SINCE = ("--since", "1970-01-01T00:00:00Z", "--until", "1970-01-02T00:00:00Z")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("PG_PASSWORD", PASSWORD)
    with shared_server() as server:
        made = server.migrated()
        yield made
        server.drop(made)


def use(folder: Path, database: Database) -> None:
    parts = urlsplit(database.url)
    place = parts.netloc.rpartition("@")[2]
    (folder / "sidecar.yaml").write_text(
        f"storage: 'postgresql://{parts.username}:${{PG_PASSWORD}}@{place}{parts.path}'\n"
    )


def leave_a_journal(folder: Path) -> None:
    """Three calls that ended and were not shipped."""
    journal = Journal(folder / "data" / "journal", JournalSettings(), SystemClock())
    journal.open(after=10)
    for _ in range(3):
        done = record()
        end(journal, begin(journal, encode_record(done).replace(b'["d"', b'["i"', 1)), encode_record(done))
    journal.close()


def test_an_installation_is_moved_with_what_its_journal_holds(
    folder: Path, sidecar: Sidecar, database: Database
) -> None:
    assert sidecar("tenants", "add", "acme", "--plan", "free").code == 0
    key = sidecar("keys", "create", "acme", "--name", "ci").out
    leave_a_journal(folder)
    use(folder, database)
    moved = sidecar(*MOVE)
    assert moved.code == 0, moved.err
    lines = moved.out.splitlines()
    assert "api_keys: 1 rows: the same on both sides" in lines
    assert any(line.startswith("entries: 3 rows, units 15,") for line in lines)
    assert lines[-1].startswith("moved")
    assert key.strip() not in moved.out + moved.err
    assert json.loads(sidecar("usage", "acme", *SINCE, "--json").out)["requests"] == 3
    assert "nothing to do" in sidecar(*MOVE).out
    assert json.loads(sidecar("usage", "acme", *SINCE, "--json").out)["requests"] == 3
    (folder / "sidecar.yaml").unlink()
    refused = sidecar("tenants", "list")
    assert refused.code == 1
    assert "was moved to PostgreSQL" in refused.err
    assert PASSWORD not in refused.err


def test_a_running_sidecar_is_left_alone(folder: Path, sidecar: Sidecar, database: Database, running: str) -> None:
    use(folder, database)
    result = sidecar(*MOVE)
    assert result.code == 1
    assert "process" in result.err


@pytest.mark.parametrize(
    ("source", "words"),
    [("sqlite:///data/none.db", "does not exist"), ("postgresql://a@b/c", "only a SQLite file can be moved")],
)
def test_what_cannot_be_moved_is_told(
    folder: Path, sidecar: Sidecar, database: Database, source: str, words: str
) -> None:
    use(folder, database)
    result = sidecar("migrate", "--from", source)
    assert result.code == 1
    assert words in result.err


def test_there_is_no_target_in_a_sqlite_configuration(folder: Path, sidecar: Sidecar) -> None:
    result = sidecar(*MOVE)
    assert result.code == 1
    assert "no PostgreSQL URL" in result.err
