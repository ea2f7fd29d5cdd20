"""The same clients over TLS, with HTTP/2 where they speak it: curl, h2load, requests, aiohttp, websockets."""

import asyncio
import hashlib
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
import requests
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.certify import Authority
from tests.e2e.api import Api
from tests.e2e.process import PATIENCE_S, Sidecar, until, write_config

BIG = bytes(range(256)) * 32_768  # 8 MiB
DIGEST = hashlib.sha256(BIG).hexdigest()
CURL, H2LOAD = shutil.which("curl"), shutil.which("h2load")
POLICIES = 'routes: [{name: all, match: {path: "/{path...}"}, upstream: api, max_body: 64MiB}]\nplans: {scale: {}}\n'


def started(folder: Path, target: str) -> Sidecar:
    pair = Authority(folder).sign("sidecar", ips=("127.0.0.1",))
    tls = f"tls: {{certificate: {pair[0]}, key: {pair[1]}}}\n"
    return Sidecar(folder, *write_config(folder, target, POLICIES, tls)).start()


@pytest.fixture(scope="module")
def front(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    sidecar = started(tmp_path_factory.mktemp("tls"), api.url)
    yield sidecar
    sidecar.close()


@pytest.fixture(scope="module")
def key(front: Sidecar) -> str:
    return front.key("clients")


def authority(front: Sidecar) -> str:
    return str(front.folder / "ca.pem")


if CURL is not None:

    def curl(front: Sidecar, key: str, *words: str, code: int = 0) -> bytes:
        command = [str(CURL), "-sS", "-m", "60", "--cacert", authority(front), "-H", f"X-API-Key: {key}", *words]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S + 60, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout

    @pytest.mark.parametrize(("flag", "version"), [("--http1.1", b"1.1"), ("--http2", b"2")])
    def test_curl(front: Sidecar, key: str, tmp_path: Path, flag: str, version: bytes) -> None:
        """Uploads with a length, in chunks and after 100; downloads of both kinds, at a limited rate too."""
        file = tmp_path / "big"
        file.write_bytes(BIG)
        for words in (
            ["--data-binary", f"@{file}"],
            ["-T", str(file)],
            ["-H", "Expect: 100-continue", "-d", f"@{file}"],
        ):
            told = curl(front, key, flag, *words, "-w", "%{http_version}", f"{front.base}/echo")
            text, _, spoken = told.rpartition(b"}")
            echo = json.loads(text + b"}")
            assert spoken == version
            if words[0] != "-H":  # -d leaves out the line ends
                assert (echo["length"], echo["sha256"]) == (len(BIG), DIGEST)
        assert curl(front, key, flag, f"{front.base}/bytes/3000000") == b"x" * 3_000_000
        assert curl(front, key, flag, "--limit-rate", "4M", f"{front.base}/chunked/4000000") == b"x" * 4_000_000
        assert b"content-length: 77" in curl(front, key, flag, "-I", f"{front.base}/bytes/77").lower()

    @pytest.mark.parametrize(("flag", "codes"), [("--http1.1", (18, 56)), ("--http2", (92,))])
    def test_curl_does_not_take_what_was_cut_short_for_whole(
        front: Sidecar, key: str, flag: str, codes: tuple[int, ...]
    ) -> None:
        command = [str(CURL), "-sS", "--cacert", authority(front), "-H", f"X-API-Key: {key}", flag]
        done = subprocess.run([*command, f"{front.base}/short"], capture_output=True, timeout=PATIENCE_S, check=False)
        assert done.returncode in codes, done.stderr


if H2LOAD is not None:

    def test_h2load(front: Sidecar) -> None:
        """Every call of 800 on four connections with eight streams each is answered, and is in the ledger."""
        key = front.key("h2load")
        command = [str(H2LOAD), "-n800", "-c4", "-m8", "-H", f"X-API-Key: {key}", f"{front.base}/bytes/400"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        found = re.search(r"(\d+) succeeded, (\d+) failed.*\nstatus codes: (\d+) 2xx", done.stdout)
        assert found is not None, done.stdout
        assert found.groups() == ("800", "0", "800")
        assert until(lambda: front.usage("h2load")["requests"] == 800)


def test_requests_verifies_us(front: Sidecar, key: str) -> None:
    with requests.Session() as session:
        session.headers["X-API-Key"] = key
        session.trust_env = False
        echo = session.post(f"{front.base}/echo", data=BIG, timeout=60, verify=authority(front)).json()
        assert echo["sha256"] == DIGEST
        with pytest.raises(requests.exceptions.SSLError):
            session.get(f"{front.base}/echo", timeout=60)


async def test_aiohttp_and_websockets(key: str, front: Sidecar, tmp_path: Path) -> None:
    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    trust = ssl.create_default_context(cafile=authority(front))
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": key}) as session,
        session.post(f"{front.base}/echo", data=BytesIO(BIG), ssl=trust) as reply,
    ):
        assert (await reply.json())["sha256"] == DIGEST
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        sidecar = await asyncio.to_thread(started, tmp_path, f"http://127.0.0.1:{port}")
        try:
            headers = {"X-API-Key": await asyncio.to_thread(sidecar.key, "sockets")}
            trust = ssl.create_default_context(cafile=authority(sidecar))
            url = sidecar.base.replace("https", "wss") + "/ws"
            async with connect(url, additional_headers=headers, ssl=trust, proxy=None, max_size=None) as socket:
                for message in ("", "text" * 50_000, BIG[:2_000_000]):
                    await socket.send(message)
                    assert await socket.recv() == message
        finally:
            await asyncio.to_thread(sidecar.close)
