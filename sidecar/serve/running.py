"""The process that the command line starts: everything in one, or the parent of workers."""

import asyncio
import errno
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import uvloop

from sidecar.app import App, Handed, Parent, take_over
from sidecar.config import Configuration, Overrides
from sidecar.core.clock import Clock
from sidecar.core.errors import SidecarError
from sidecar.core.policy import Snapshot
from sidecar.serve import tuning

_WORKER = (sys.executable, "-P", "-m", "sidecar.serve.worker")
_log = logging.getLogger("sidecar")


def run(config: Path | None, overrides: Overrides, *, takeover: bool = False, clock: Clock | None = None) -> int:
    """Serves until SIGTERM or SIGINT; the exit code. ConfigError, SidecarError and OSError say why it cannot start.

    ``takeover``: from the process that runs on the same data folder. ``clock``: None is the machine's; workers always
    have that one.
    """
    configuration = Configuration(config, overrides, os.environ)
    snapshot = configuration.load()
    tuning.begin("%(name)s")
    handed = take_over(snapshot) if takeover else None
    return uvloop.run(_serve(snapshot, configuration, handed, clock))


async def _serve(snapshot: Snapshot, configuration: Configuration, handed: Handed | None, clock: Clock | None) -> int:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    more = {"handed": handed, "left": stop.set}
    several = snapshot.settings.workers > 1
    app = (
        Parent(snapshot, _WORKER, clock, configuration, **more)
        if several
        else App(snapshot, clock, configuration, **more)
    )
    reloads: set[asyncio.Task[None]] = set()  # one at most that runs and one that waits for it
    loop.add_signal_handler(signal.SIGHUP, _reload, app, reloads)
    starting, stopping = asyncio.ensure_future(app.start()), asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # it waits for its store, and need not any more
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        return 0
    try:
        starting.result()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SidecarError(f"{_address(snapshot, str(error))} is taken: another program listens there") from None
        if "attempting to bind" in str(error):
            reason = os.strerror(error.errno or 0)
            raise SidecarError(f"cannot listen on {_address(snapshot, str(error))}: {reason}") from None
        raise
    note = Path(snapshot.settings.data) / "run.json"
    tuning.settle()
    try:
        listen, admin = app.listening
        _announce(snapshot, listen, admin, note)
        await stop.wait()
        _log.info("stopping: requests under way have %gs to end", app.snapshot.settings.drain_ns / 1e9)
    finally:
        with suppress(OSError, ValueError, KeyError):
            if json.loads(note.read_text())["pid"] == os.getpid():  # not that of who has taken over
                note.unlink()
        await app.stop()
    return 0


def _reload(app: App | Parent, reloads: "set[asyncio.Task[None]]") -> None:
    if len(reloads) < 2:
        task = asyncio.ensure_future(app.reloads.attempt())
        reloads.add(task)
        task.add_done_callback(reloads.discard)


def _announce(snapshot: Snapshot, listen: str, admin: str, note: Path) -> None:
    """Says on stdout where we are, and leaves the same in ``run.json`` for the other commands."""
    part = note.with_suffix(".part")
    part.write_text(json.dumps({"pid": os.getpid(), "listen": listen, "admin": admin}))
    part.replace(note)
    protects = ", ".join(
        f"{name} ({', '.join(str(target) for target in upstream.targets)})"
        for name, upstream in snapshot.upstreams.items()
    )
    scheme = "http" if snapshot.settings.tls is None else "https"
    sys.stdout.write(f"sidecar: listening on {scheme}://{listen}, protecting {protects}, admin on http://{admin}\n")
    sys.stdout.flush()


def _address(snapshot: Snapshot, text: str) -> str:
    settings = snapshot.settings
    for host, port in ((settings.listen_host, settings.listen_port), (settings.admin.host, settings.admin.port)):
        if f"'{host}', {port})" in text:
            return f"{host}:{port}"
    return "the address"
