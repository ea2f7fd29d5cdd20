"""Clients that none of us wrote: curl, requests, httpx, aiohttp, websockets, wrk; each as its users call it."""

import asyncio
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import requests
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, Sidecar

BIG = bytes(range(256)) * 32_768  # 8 MiB
DIGEST = hashlib.sha256(BIG).hexdigest()
CURL, WRK = shutil.which("curl"), shutil.which("wrk")


@pytest.fixture(scope="module")
def key(front: Sidecar) -> str:
    return front.key("clients")


def pieces() -> Iterator[bytes]:
    for at in range(0, len(BIG), 100_000):
        yield BIG[at : at + 100_000]


def is_whole(echo: dict[str, Any]) -> None:
    assert (echo["length"], echo["sha256"]) == (len(BIG), DIGEST)


if CURL is not None:

    def curl(front: Sidecar, key: str, path: str, *words: str, data: bytes | None = None) -> bytes:
        command = [str(CURL), "-sS", "--fail", "-m", "60", "-H", f"X-API-Key: {key}", *words, front.base + path]
        done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE_S + 60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
    @pytest.mark.parametrize("path", ["/bytes/3000000", "/chunked/3000000"])
    def test_curl_downloads(front: Sidecar, key: str, version: str, path: str) -> None:
        assert curl(front, key, path, version) == b"x" * 3_000_000

    def test_curl_heads_and_keeps_its_connection(front: Sidecar, key: str) -> None:
        assert b"content-length: 77" in curl(front, key, "/bytes/77", "-I").lower()
        words = [f"{front.base}/echo/2", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} "]
        told = curl(front, key, "/echo/1", *words)
        assert told.split() == [b"1", b"0"]

    @pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
    @pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
    def test_curl_uploads_a_big_file(front: Sidecar, key: str, tmp_path: Path, version: str, expect: str) -> None:
        file = tmp_path / "big"
        file.write_bytes(BIG)
        is_whole(json.loads(curl(front, key, "/echo", version, "--data-binary", f"@{file}", "-H", expect)))

    def test_curl_uploads_in_chunks(front: Sidecar, key: str) -> None:
        is_whole(json.loads(curl(front, key, "/echo", "-T", "-", data=BIG)))

    def test_curl_at_a_limited_rate(front: Sidecar, key: str) -> None:
        """Slower than loopback by far: the upstream is paused and nothing is lost."""
        assert curl(front, key, "/bytes/4000000", "--limit-rate", "4M") == b"x" * 4_000_000

    def test_curl_is_refused_before_it_sends_the_body(front: Sidecar, tmp_path: Path) -> None:
        file = tmp_path / "big"
        file.write_bytes(BIG)
        words = ["-H", "Expect: 100-continue", "--data-binary", f"@{file}", "-w", "%{http_code} %{size_upload}"]
        command = [str(CURL), "-sS", "-o", str(tmp_path / "out"), *words, f"{front.base}/echo"]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True)
        assert done.stdout == b"401 0"


if WRK is not None:

    def test_wrk(front: Sidecar) -> None:
        """Every call that wrk counts, and those it had under way at its end, is in the ledger."""
        key = front.key("wrk")
        command = [str(WRK), "-t1", "-c8", "-d1s", "-H", f"X-API-Key: {key}", f"{front.base}/bytes/400"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        assert "Non-2xx" not in done.stdout, done.stdout
        assert "Socket errors" not in done.stdout, done.stdout
        found = re.search(r"(\d+) requests in", done.stdout)
        assert found is not None
        counted = int(found[1])
        recorded = front.usage("wrk")["requests"]
        for _ in range(20):
            if counted <= recorded:
                break
            recorded = front.usage("wrk")["requests"]
        assert counted <= recorded <= counted + 8


def test_requests(front: Sidecar, key: str) -> None:
    with requests.Session() as session:
        session.headers["X-API-Key"] = key
        is_whole(session.post(f"{front.base}/echo", data=BIG, timeout=60).json())
        is_whole(session.post(f"{front.base}/echo", data=pieces(), timeout=60).json())
        with session.get(f"{front.base}/chunked/3000000", stream=True, timeout=60) as reply:
            assert sum(map(len, reply.iter_content(10_000))) == 3_000_000
        assert session.head(f"{front.base}/bytes/9", timeout=60).headers["Content-Length"] == "9"
        assert session.get(f"{front.base}/status/204", timeout=60).status_code == 204


def test_httpx(front: Sidecar, key: str) -> None:
    with httpx.Client(base_url=front.base, headers={"X-API-Key": key}, timeout=60, trust_env=False) as client:
        is_whole(client.post("/echo", content=BIG).json())
        is_whole(client.post("/echo", content=pieces()).json())
        with client.stream("GET", "/chunked/3000000") as reply:
            assert sum(map(len, reply.iter_raw())) == 3_000_000
        with client.stream("GET", "/short") as torn, pytest.raises(httpx.TransportError):
            torn.read()
        assert client.get("/drop").status_code == 502


async def test_aiohttp(front: Sidecar, key: str) -> None:
    async def chunks() -> Any:
        for piece in pieces():
            yield piece

    async with aiohttp.ClientSession(front.base, headers={"X-API-Key": key}) as session:
        for sent, expects in ((BytesIO(BIG), False), (BytesIO(BIG), True), (chunks(), True)):
            async with session.post("/echo", data=sent, expect100=expects) as reply:
                is_whole(await reply.json())
        async with session.get("/chunked/3000000") as reply:
            assert len(await reply.read()) == 3_000_000
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(_status(session, n)) for n in range(50)]
        assert {call.result() for call in calls} == {200}


async def _status(session: aiohttp.ClientSession, number: int) -> int:
    async with session.get(f"/bytes/{number}") as reply:
        assert len(await reply.read()) == number
        return reply.status


async def test_websockets(make: Make) -> None:
    """Compressed and not, of any size; closed by the client, the server, or the sidecar when key or tenant ends."""

    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            if message == "close":
                await socket.close(4001, "as asked")
            else:
                await socket.send(message)

    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        front = await asyncio.to_thread(make("--upstream", f"http://127.0.0.1:{port}").start)
        key = await asyncio.to_thread(front.key, "sockets")
        url = front.base.replace("http", "ws") + "/ws"
        for compression in ("deflate", None):
            async with connect(
                url, additional_headers={"X-API-Key": key}, compression=compression, proxy=None
            ) as socket:
                for message in ("", "text" * 50_000, BIG[:1_000_000]):
                    await socket.send(message)
                    assert await socket.recv() == message
                await (await socket.ping())
        async with connect(url, additional_headers={"X-API-Key": key}, proxy=None) as socket:
            await socket.send("close")
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (4001, "as asked")
        async with connect(url, additional_headers={"X-API-Key": key}, proxy=None) as socket:
            await socket.send("still here")
            assert await socket.recv() == "still here"
            await asyncio.to_thread(front.cli, "keys", "revoke", key.split("_")[2][:12])
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
            assert (socket.close_code, socket.close_reason) == (1008, "key_revoked")
        key = await asyncio.to_thread(front.another_key, "sockets")
        async with connect(url, additional_headers={"X-API-Key": key}, proxy=None) as socket:
            await socket.send("still here")
            assert await socket.recv() == "still here"
            await asyncio.to_thread(front.cli, "tenants", "set", "sockets", "--state", "suspended")
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
            assert (socket.close_code, socket.close_reason) == (1008, "tenant_suspended")
        assert (await asyncio.to_thread(front.usage, "sockets", 5))["requests"] == 5


def test_the_api_saw_no_request_twice(front: Sidecar, api: Api, key: str) -> None:
    """`/drop` closes unanswered: whatever the client does then, nothing is sent again by the sidecar."""
    before = api.seen.get("/drop", 0)
    assert front.call("POST", "/drop", key).status == 502
    assert api.seen["/drop"] == before + 1
