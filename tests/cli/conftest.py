"""Commands run in this process, in an empty folder; a sidecar that runs is its admin port over its locked store."""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from sidecar.admin import AdmissionReading, Build, Connections, JournalReading, Sources, make_admin_app
from sidecar.app import open_offline
from sidecar.cli import main
from sidecar.config import Overrides, load, policy_set
from sidecar.core.policy import Admin
from sidecar.metering import Tallies

TOKEN = "token-of-the-running-one"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Sidecar = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sidecar(folder: Path, capfd: pytest.CaptureFixture[str]) -> Sidecar:
    """Runs one command line and returns what a shell would see."""

    def run(*argv: str) -> Result:
        try:
            code = main(argv)
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run


async def _serve(address: "Future[str]", stop: asyncio.Event) -> None:
    snapshot = load(None, Overrides(data="data"), {}, needs_upstream=False)
    sources = Sources(
        tallies=Tallies().read,
        admission=AdmissionReading,
        journal=JournalReading,
        upstreams=tuple,
        connections=Connections,
        build=lambda: Build("0", "0", "0"),
        currency=lambda: "USD",
    )

    async def in_force() -> dict[str, object]:
        return policy_set(snapshot)

    async with open_offline(snapshot) as operations:
        runner = web.AppRunner(make_admin_app(operations, sources, list, TOKEN, Admin(), policies=in_force))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        address.set_result(f"{host}:{port}")
        await stop.wait()
        await runner.cleanup()


@pytest.fixture
def running(folder: Path) -> Iterator[str]:
    """The admin address of a sidecar that holds the store of ``data`` and left its note there."""
    address: Future[str] = Future()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(address, stop),))
    thread.start()
    note = {"pid": os.getpid(), "listen": "127.0.0.1:1", "admin": address.result(10)}
    (folder / "data" / "admin.token").write_text(TOKEN)
    (folder / "data" / "run.json").write_text(json.dumps(note))
    yield address.result()
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()
