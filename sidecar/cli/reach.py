"""Where a command's work is done: in the running sidecar, through its admin port, or here, on the store itself.

There is never a second writer. ``SIDECAR_ADMIN`` names an admin port; without it ``run.json`` in the data folder says
whether a sidecar runs here; when none does, the store is opened under its lock. A lock that is taken while no sidecar
answers belongs to one that starts or stops, or to another command: it is tried again for a few seconds.
"""

import argparse
import getpass
import json
import os
import re
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.cli.remote import NotRunning, Remote
from sidecar.core.errors import ConfigError, SidecarError, StoreLocked

if TYPE_CHECKING:
    from sidecar.core.policy import Snapshot

_DEFAULT_FILE = Path("sidecar.yaml")
_DEFAULT_DATA = "data"
_TRIES = 50
_PAUSE_S = 0.1
_NEVER = Event()  # waiting for it is a pause that Ctrl-C ends
_READ_ONLY = frozenset({"tenants_list", "tenants_show", "keys_list", "usage", "usage_by", "margin"}) | {
    "desk.reconcile",
    "desk.outbox_list",
    "explainer.explain",
    "impact",
    "terms.show",
    "credits.listing",
    "credits.balance",
}
Result = TypeVar("Result")


def perform(
    options: argparse.Namespace,
    operation: str,
    arguments: dict[str, Any],
    pause: Callable[[float], object] = _NEVER.wait,
) -> dict[str, Any]:
    """What the method ``operation`` of admin.Operations returns. SidecarError, ValueError or OSError otherwise."""
    return _reach(
        options,
        lambda remote: remote.call(operation, arguments),
        lambda snapshot: _offline(snapshot, operation, arguments),
        pause,
    )


def reload(options: argparse.Namespace, pause: Callable[[float], object] = _NEVER.wait) -> dict[str, Any]:
    """Has the running sidecar read its configuration again. SidecarError when none runs, or it refuses, and why."""
    return _reach(options, lambda remote: remote.call("reload", {}), _nobody, pause)


def in_force(options: argparse.Namespace, pause: Callable[[float], object] = _NEVER.wait) -> dict[str, Any]:
    """The policies of the sidecar that runs, ``running`` True; else those of the files."""

    def here(snapshot: "Snapshot") -> dict[str, Any]:
        from sidecar.config import policy_set

        return {"policies": policy_set(snapshot), "running": False}

    return _reach(options, lambda remote: remote.call("policies", {}) | {"running": True}, here, pause)


def _nobody(snapshot: "Snapshot") -> dict[str, Any]:
    raise SidecarError(f"no sidecar runs on {snapshot.settings.data}")


def fetch(
    options: argparse.Namespace,
    operation: str,
    arguments: dict[str, Any],
    sink: Callable[[bytes], object],
    pause: Callable[[float], object] = _NEVER.wait,
) -> None:
    """The same for an operation that returns an admin.Export: its pieces go to ``sink``, in order. What ``sink`` got
    before an error is not the whole."""
    _reach(
        options,
        lambda remote: remote.fetch(operation, arguments, sink),
        lambda snapshot: _offline_export(snapshot, operation, arguments, sink),
        pause,
    )


def _reach(
    options: argparse.Namespace,
    there: Callable[[Remote], Result],
    here: Callable[["Snapshot"], Result],
    pause: Callable[[float], object],
) -> Result:
    place = _Place(options)
    address = os.environ.get("SIDECAR_ADMIN")
    if address:
        return there(Remote(address, place.token(), _actor()))
    locked: StoreLocked | None = None
    for attempt in range(_TRIES):
        if attempt:
            pause(_PAUSE_S)
        running = _running_at(place.data())
        try:
            if running is not None:
                return there(Remote(running, place.token(), _actor()))
        except NotRunning:
            pass
        try:
            return here(place.snapshot())
        except StoreLocked as error:
            locked = error
    raise SidecarError(f"{locked}; no sidecar answers for {place.data()}: set SIDECAR_ADMIN to its admin port")


def config_file(options: argparse.Namespace) -> Path | None:
    """The file that would be read; None when the built-in configuration applies."""
    if options.config is not None:
        return Path(options.config)
    return _DEFAULT_FILE if _DEFAULT_FILE.exists() else None


class _Place:
    """Data folder, token and configuration, each found when it is needed: a running sidecar needs no configuration."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._snapshot: Snapshot | None = None

    def snapshot(self) -> "Snapshot":
        if self._snapshot is None:
            from sidecar.config import Overrides, load

            path = None if self._options.config is None else Path(self._options.config)
            self._snapshot = load(path, Overrides(data=self._options.data), os.environ, needs_upstream=False)
        return self._snapshot

    def data(self) -> str:
        if self._options.data is not None:
            return str(self._options.data)
        return self.snapshot().settings.data if config_file(self._options) is not None else _DEFAULT_DATA

    def token(self) -> str:
        """From the environment, the configuration, or the data folder."""
        token = os.environ.get("SIDECAR_ADMIN_TOKEN")
        if token:
            return token
        kept = Path(self.data()) / "admin.token"
        if config_file(self._options) is not None:
            try:
                configured = self.snapshot().settings.admin.token
            except ConfigError:
                # A file broken in an edit must not keep anybody from revoking a key of the sidecar that runs.
                if not kept.exists():
                    raise
                configured = None
            if configured is not None:
                return configured
        try:
            return kept.read_text().strip()
        except FileNotFoundError:
            raise SidecarError(f"there is no admin token in {kept}; set SIDECAR_ADMIN_TOKEN") from None


def _running_at(data: str) -> str | None:
    """The admin address of the sidecar that runs on this folder, as far as its note and its process say."""
    try:
        note = json.loads((Path(data) / "run.json").read_text())
        address, pid = note["admin"], note["pid"]
        # The token goes to that address: a note left by a dead process may name a port that is someone else's now.
        os.kill(pid, 0)
    except PermissionError:
        return str(address)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return str(address)


def _offline(snapshot: "Snapshot", operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    import asyncio

    from sidecar.app import open_offline

    async def work() -> dict[str, Any]:
        async with open_offline(snapshot) as operations:
            actor = {} if operation in _READ_ONLY else {"actor": _actor()}
            result: dict[str, Any] = await attrgetter(operation)(operations)(**arguments, **actor)
            return result

    return asyncio.run(work())


def _offline_export(
    snapshot: "Snapshot", operation: str, arguments: dict[str, Any], sink: Callable[[bytes], object]
) -> None:
    import asyncio
    from contextlib import aclosing

    from sidecar.app import open_offline

    async def work() -> None:
        async with open_offline(snapshot) as operations:
            export = await getattr(operations, operation)(**arguments)
            async with aclosing(export.chunks) as chunks:
                async for chunk in chunks:
                    sink(chunk)

    asyncio.run(work())


def _actor() -> str:
    """Who the audit log names: ``cli:`` and the login name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = str(os.getuid())
    return "cli:" + (re.sub(r"[^\x21-\x7e]", "?", name)[:60] or "?")
