"""A new process takes over from the one that runs, on the same data folder, without a connection lost.

::

    new   take        ->         old   here are my listening sockets (SCM_RIGHTS): nobody is turned away any more
    new   release     ->         old   accepts no more, lets what is short end, lets go of the store
    new   opens the store and accepts; meanwhile connections wait in the sockets
    old   lets what is long end, within ``drain``, and leaves; what it has still to ship, the new one ships

The old one is never asked for the second step by a process whose configuration is not good.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.app.sockets import Group, close_all, place_of
from sidecar.core.errors import SidecarError, StoreDown
from sidecar.core.policy import Snapshot
from sidecar.storage import own_socket, short_name

DOOR = "takeover"
_MOST = 253  # descriptors in one message: SCM_MAX_FD (unix(7))
_WAIT_S = 60.0
_CREDENTIALS = struct.Struct("3i")
_log = logging.getLogger("sidecar")


@dataclass(slots=True)
class Handed:
    """What the old process gave: the lane's sockets by worker, and the admin port's."""

    groups: list[Group]
    admin: Group
    door: socket.socket

    def close(self) -> None:
        """Takes nothing: the old process goes on."""
        self.door.close()
        close_all([*self.groups, self.admin])

    def release(self) -> None:
        """Returns once the old process has let go of the store. Blocks. SidecarError: it did not."""
        try:
            self.door.sendall(b"release\n")
            if self.door.recv(64) != b"released\n":
                raise SidecarError("the process to take over from did not let go of its data")
        except OSError as error:
            raise SidecarError(f"the process to take over from ended: {error.strerror or error}") from error
        finally:
            self.door.close()


def take_over(snapshot: Snapshot) -> Handed:
    """Asks the process that runs on the same data folder for its sockets; nothing has changed for it yet. Blocks.
    StoreDown: there is none. SidecarError: it listens elsewhere than ``snapshot`` says."""
    settings = snapshot.settings
    handed = _asked(settings.data)
    places = ((settings.listen_port, handed.groups[0]), (settings.admin.port, handed.admin))
    for port, group in places:
        if port and port != group[0].getsockname()[1]:
            place = place_of(group)
            handed.close()
            raise SidecarError(
                f"the process to take over from listens at {place} and not at port {port}; stop it and start "
                "this one without --takeover"
            )
    return handed


def _asked(data: str) -> Handed:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.settimeout(_WAIT_S)
    try:
        with short_name(Path(data) / DOOR) as name:
            door.connect(name)
        door.sendall(b"take\n")
        text, fds, _, _ = socket.recv_fds(door, 65536, _MOST)
        sizes, admin = json.loads(text)
    except (OSError, ValueError) as error:
        door.close()
        raise StoreDown(f"no sidecar runs on {data} that could be taken over from: {error}") from None
    sockets = [socket.socket(fileno=fd) for fd in fds]
    groups = []
    for size in sizes:
        groups.append(sockets[:size])
        sockets = sockets[size:]
    return Handed(groups, sockets[:admin], door)


class Door:
    """Where a successor asks. ``release`` gives everything away that a successor needs; ``left`` is called after it."""

    def __init__(
        self,
        data: str,
        groups: list[Group],
        admin: Group,
        release: Callable[[], Awaitable[None]],
        left: Callable[[], None],
    ) -> None:
        self._path = Path(data) / DOOR
        self._groups = groups
        self._admin = admin
        self._release = release
        self._left = left
        self._sock = own_socket(self._path)
        self._inode = self._path.stat().st_ino
        self._sock.listen(1)
        self._sock.setblocking(False)

    async def run(self) -> None:
        """Answers one after the other, until cancelled or left."""
        loop = asyncio.get_running_loop()
        while True:
            peer, _ = await loop.sock_accept(self._sock)
            try:
                async with asyncio.timeout(_WAIT_S):
                    if await self._serve(peer):
                        return
            except (OSError, TimeoutError) as error:
                _log.warning("a process asked for what is here and went away: %s", error)
            finally:
                peer.close()

    def close(self) -> None:
        self._sock.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _serve(self, peer: socket.socket) -> bool:
        loop = asyncio.get_running_loop()
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid != os.geteuid() or await loop.sock_recv(peer, 64) != b"take\n":
            return False
        sockets = [sock for group in self._groups for sock in group] + self._admin
        told = json.dumps([[len(group) for group in self._groups], len(self._admin)]).encode()
        socket.send_fds(peer, [told], [sock.fileno() for sock in sockets])
        if await loop.sock_recv(peer, 64) != b"release\n":
            return False  # it has seen that it cannot: nothing has changed here
        _log.info("another process takes over")
        self.close()
        try:
            await self._release()
            await loop.sock_sendall(peer, b"released\n")
        finally:
            self._left()
        return True
