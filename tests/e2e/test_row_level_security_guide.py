"""The guide's service runs as it stands there: FastAPI behind the sidecar on a real PostgreSQL."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.e2e.process import PATIENCE_S, Sidecar, command, write_config
from tests.storage.postgres.server import Database, run, shared_server

GUIDE = (Path(__file__).parents[2] / "docs" / "row-level-security.md").read_text()
PLANS = "plans:\n  scale: {limits: [{name: burst, limit: 1000, window: 1s}]}\n"
IDENTITY = "identity: {upstream_jwt: {header: X-Identity-Token, audience: notes, issuer: sidecar, ttl: 60s}}\n"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


async def execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with shared_server() as server:
        made = server.empty()
        run(execute(made.superuser_url, block("sql")))
        yield made
        server.drop(made)
        run(execute(server.superuser_url, "DROP ROLE notes_service; DROP ROLE notes_owner"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def front(database: Database, tmp_path: Path) -> Iterator[Sidecar]:
    port, listen = free_port(), free_port()
    (tmp_path / "service.py").write_text(block("python"))
    parts = urlsplit(database.superuser_url)
    place = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"notes_service:change-me@{place}"))
    environment = os.environ | {"DATABASE_URL": url, "SIDECAR_URL": f"http://127.0.0.1:{listen}"}
    sidecar = Sidecar(tmp_path, *write_config(tmp_path, f"http://127.0.0.1:{port}", PLANS, IDENTITY))
    service = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port), "--log-level", "warning"],
        cwd=tmp_path,
        env=environment,
    )
    try:
        wait_for(port, service)
        yield sidecar.start("--listen", f"127.0.0.1:{listen}")
    finally:
        sidecar.close()
        service.terminate()
        service.wait(PATIENCE_S)


def wait_for(port: int, service: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert service.poll() is None, "the service ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the service does not listen")


def test_each_tenant_sees_its_own_rows_and_nobody_sees_any_without_the_sidecar(front: Sidecar, tmp_path: Path) -> None:
    acme, other = front.key("acme"), front.key("other")
    for key, body in ((acme, "ours"), (acme, "ours+too"), (other, "theirs")):
        assert front.call("POST", f"/notes?body={body}", key).status == 200
    for _ in range(3):  # more often than the pool has connections in use: nothing stays on them
        assert [row["body"] for row in json.loads(front.call("GET", "/notes", acme).body)] == ["ours", "ours too"]
        assert [row["body"] for row in json.loads(front.call("GET", "/notes", other).body)] == ["theirs"]
    forged = front.call("GET", "/notes", other, headers={"X-Tenant-ID": "acme", "X-Identity-Token": "e30.e30.x"})
    assert [row["body"] for row in json.loads(forged.body)] == ["theirs"], "what a client sends is replaced"
    config = json.loads(command("config", "show", "--json", *front.words[:2], cwd=tmp_path).stdout)
    direct = urllib.request.Request(config["upstreams"]["api"]["targets"][0] + "/notes")
    for token in (None, "e30.e30.x"):
        if token is not None:
            direct.add_header("X-Identity-Token", token)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(direct, timeout=PATIENCE_S)
        refused.value.close()
        assert refused.value.code in (401, 422)


def test_without_a_tenant_the_table_is_empty_and_closed(database: Database) -> None:
    async def ask() -> None:
        connection = await asyncpg.connect(database.superuser_url)
        try:
            await connection.execute("SET ROLE notes_service")
            for setting in (None, "", "acme' OR true --"):
                async with connection.transaction():
                    if setting is not None:
                        await connection.execute("SELECT set_config('app.tenant', $1, true)", setting)
                    assert await connection.fetch("SELECT * FROM notes") == []
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute("INSERT INTO notes (body) VALUES ('nobody')")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await connection.execute("INSERT INTO notes (tenant, body) VALUES ('acme', 'forged')")
        finally:
            await connection.close()

    asyncio.run(ask())
