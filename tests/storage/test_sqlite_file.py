"""The database file: made private, migrated, locked; and every way in which it can be wrong, in words, unharmed."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from sidecar.core.errors import StoreError, StoreFull, StoreLocked
from sidecar.core.ports import Position
from sidecar.core.values import ApiKey, Tenant
from sidecar.storage import SqliteStore
from sidecar.storage.sqlite.tenants import AUDIT_ROWS


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_file_and_folder_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "sidecar.db"
    SqliteStore.open(path).close()
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert mode(path.with_name("sidecar.db.lock")) == 0o600


async def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a.db")
    await store.add_tenant(Tenant("acme", "pro"), actor="me")
    await store.append([], Position(2, 3))
    store.close()
    again = SqliteStore.open(tmp_path / "a.db")
    assert (await again.tenant("acme"), await again.position()) == (Tenant("acme", "pro"), Position(2, 3))
    again.close()


def test_a_second_writer_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    first = SqliteStore.open(tmp_path / "a.db")
    with pytest.raises(StoreLocked, match=rf"a\.db is being written to by process {os.getpid()}"):
        SqliteStore.open(tmp_path / "a.db")
    first.close()
    SqliteStore.open(tmp_path / "a.db").close()


def test_a_writer_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom sidecar.storage import SqliteStore\n"
        "store = SqliteStore.open(pathlib.Path(sys.argv[1]))\nprint('open', flush=True)\nsys.stdin.read()"
    )
    path = tmp_path / "a.db"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=f"process {child.pid}"):
            SqliteStore.open(path)
        child.kill()
        child.wait()
        child.stdin.close()
    SqliteStore.open(path).close()


async def test_readers_see_what_the_writer_commits_and_write_nothing(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a.db")
    reader = SqliteStore.open(tmp_path / "a.db", readonly=True)
    await store.add_tenant(Tenant("acme", "pro"), actor="me")
    assert await reader.tenant("acme") == Tenant("acme", "pro")
    with pytest.raises(StoreError, match="read only"):
        await reader.add_tenant(Tenant("other", "pro"), actor="me")
    reader.close()
    store.close()
    alone = SqliteStore.open(tmp_path / "a.db", readonly=True)
    assert await alone.tenant("acme") == Tenant("acme", "pro")
    alone.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"this is not a database, it is a letter\n" * 100)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()


def newer(path: Path) -> None:
    SqliteStore.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def damaged(path: Path) -> None:
    SqliteStore.open(path).close()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (garbage, "not a SQLite database"),
        (foreign, "another program"),
        (newer, "has schema 99"),
        (damaged, "is damaged"),
        (Path.mkdir, "directory"),
    ],
)
@pytest.mark.parametrize("readonly", [False, True])
def test_a_wrong_file_is_named_explained_and_left_alone(tmp_path: Path, spoil, message: str, readonly: bool) -> None:
    path = tmp_path / "my.db"
    spoil(path)
    content = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError) as caught:
        SqliteStore.open(path, readonly=readonly)
    assert str(path) in str(caught.value)
    if not (readonly and content is None):  # a directory opened read-only is simply no file that can be opened
        assert message in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == content
    with pytest.raises(StoreError, match=r"my\.db"):  # and the lock was let go
        SqliteStore.open(path)


def test_a_missing_file_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        SqliteStore.open(tmp_path / "a.db", readonly=True)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def held_by_another_program(path: Path, locking_mode: str) -> Iterator[None]:
    """A second process, because SQLite's locks do not tell two libraries in one process apart."""
    script = (
        "import sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA locking_mode = ' + sys.argv[2])\nconnection.execute('BEGIN IMMEDIATE')\n"
        "connection.execute('UPDATE keys_version SET value = value')\nprint('held', flush=True)\nsys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script, str(path), locking_mode], **pipes) as child:
        assert child.stdout.readline() == "held\n"
        yield
        child.stdin.close()


async def test_a_foreign_programs_lock_is_explained_and_passes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    SqliteStore.open(path).close()
    with held_by_another_program(path, "EXCLUSIVE"), pytest.raises(StoreError, match="locked by another program"):
        SqliteStore.open(path, busy_timeout_ms=1)
    SqliteStore.open(path).close()


async def test_a_foreign_programs_lock_fails_the_change_and_not_the_store(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a.db", busy_timeout_ms=1)
    with (
        held_by_another_program(tmp_path / "a.db", "NORMAL"),
        pytest.raises(StoreError, match="locked by another program"),
    ):
        await store.add_tenant(Tenant("acme", "pro"), actor="me")
    await store.add_tenant(Tenant("acme", "pro"), actor="me")
    store.close()


async def test_a_full_disk_fails_the_batch_and_nothing_of_it_stays(tmp_path: Path) -> None:
    """``max_page_count`` makes SQLite report SQLITE_FULL as a full disk does."""
    store = SqliteStore.open(tmp_path / "a.db")

    def limit(connection: apsw.Connection, pages: int) -> None:
        connection.pragma("max_page_count", pages)

    store._writer.call(limit, 1)
    with pytest.raises(StoreFull, match="disk is full"):
        for number in range(1000):
            await store.add_tenant(Tenant(f"tenant{number}" * 50, "pro"), actor="me")
    store._writer.call(limit, 1 << 30)
    kept = len(await store.tenants(limit=2000))
    await store.add_tenant(Tenant("last", "pro"), actor="me")
    assert len(await store.tenants(limit=2000)) == kept + 1
    store.close()


def opened_as_nobody(path: Path) -> str:
    """What opening says to a user who is not root, who may write anything. In a child, which cannot come back."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            SqliteStore.open(path)
        except StoreError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork with threads: the child only opens a file
@pytest.mark.parametrize(("file", "folder"), [(0o444, 0o755), (0o666, 0o555)])
def test_a_read_only_file_or_folder_is_explained(file: int, folder: int) -> None:
    shared = Path(tempfile.mkdtemp(prefix="sidecar-readonly-"))  # tmp_path is closed to other users
    try:
        path = shared / "a.db"
        SqliteStore.open(path).close()
        path.chmod(file)
        path.with_name("a.db.lock").chmod(0o666)
        shared.chmod(folder)
        message = opened_as_nobody(path)
        assert str(path) in message
        assert "cannot be opened" in message or "read-only" in message
    finally:
        shared.chmod(0o755)
        shutil.rmtree(shared)


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a.db")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.tenant("acme")


async def test_every_change_has_its_audit_row_without_the_digest(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a.db")
    digest = bytes(range(32))
    await store.add_tenant(Tenant("acme", "pro", created_ns=5), actor="ann")
    await store.add_key(ApiKey("k1", "acme", "ci", False, digest, "p1", None, 10), actor="bob")
    await store.set_tenant("acme", plan="free", actor="cy", at_ns=11)
    await store.end_key("k1", at_ns=12, revoked=True, actor="di")
    with pytest.raises(StoreError):
        await store.end_key("k2", at_ns=13, revoked=True, actor="eve")
    store.close()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        rows = connection.execute("SELECT at_ns, actor, action, subject, detail FROM audit_log ORDER BY seq").fetchall()
    connection.close()
    assert [row[:4] for row in rows] == [
        (5, "ann", "tenant.add", "acme"),
        (10, "bob", "key.add", "k1"),
        (11, "cy", "tenant.set", "acme"),
        (12, "di", "key.revoke", "k1"),
    ]
    assert digest.hex() not in str(rows)


async def test_the_audit_log_is_bounded(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a.db")
    await store.add_tenant(Tenant("old", "pro"), actor="me")

    def age(connection: apsw.Connection) -> None:
        connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'audit_log'", (AUDIT_ROWS - 1,))

    store._writer.call(age)
    await store.add_tenant(Tenant("new", "pro"), actor="me")
    await store.add_tenant(Tenant("newer", "pro"), actor="me")
    store.close()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        subjects = connection.execute("SELECT subject FROM audit_log ORDER BY seq").fetchall()
    connection.close()
    assert subjects == [("new",), ("newer",)]


async def test_a_long_report_holds_up_neither_writing_nor_looking_up(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a.db")
    running, may_end = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def long_report(connection: apsw.Connection) -> int:
        rows = connection.execute("SELECT count(*) FROM tenants")
        loop.call_soon_threadsafe(running.set)
        asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result()
        return rows.get

    report = asyncio.create_task(store._reports.run(long_report))
    await running.wait()
    await store.add_tenant(Tenant("acme", "pro"), actor="me")
    assert await store.tenant("acme") is not None
    may_end.set()
    assert await report == 0
    store.close()
