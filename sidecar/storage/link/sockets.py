"""The link's Unix socket: made with mode 0600 in a folder, reached by processes of the same user alone."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from sidecar.core.errors import StoreDown, StoreError
from sidecar.storage.link.channel import Channel

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of SO_PEERCRED (unix(7))
_BACKLOG = 128


class LinkServer:
    """Listens at ``path``. ``accept(pid)`` gives the channel for a new peer, or None to turn it away."""

    def __init__(self, path: Path, accept: Callable[[int], Channel | None]) -> None:
        self._path = path
        self._accept = accept
        self._server: asyncio.Server | None = None
        self._channels: set[Channel] = set()
        self._inode = 0

    async def start(self) -> None:
        """StoreError: the socket cannot be made. One that a dead process left is replaced."""
        sock = own_socket(self._path)
        self._inode = self._path.stat().st_ino
        sock.listen(_BACKLOG)
        self._server = await asyncio.get_running_loop().create_unix_server(self._made, sock=sock)

    async def close(self) -> None:
        """Ends every connection and removes the socket, unless another process has put its own there."""
        if self._server is not None:
            self._server.close()
        for channel in list(self._channels):
            channel.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _made(self) -> asyncio.BaseProtocol:
        return _Newcomer(self)

    def arrived(self, transport: asyncio.Transport) -> None:
        """A connection: who is it?"""
        pid, uid = peer_of(transport)
        channel = self._accept(pid) if uid == os.geteuid() else None
        if channel is None:
            transport.abort()
            return
        self._channels.add(channel)
        told, channel.lost = channel.lost, None

        def lost() -> None:
            self._channels.discard(channel)
            if told is not None:
                told()

        channel.lost = lost
        transport.set_protocol(channel)
        channel.connection_made(transport)


def own_socket(path: Path) -> socket.socket:
    """A Unix socket bound to ``path``, for this user alone. StoreError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with short_name(path) as name:
            mask = os.umask(0o177)
            try:
                sock.bind(name)
            finally:
                os.umask(mask)
    except OSError as error:
        sock.close()
        raise StoreError(f"the socket {path} cannot be made: {error.strerror or error}") from error
    return sock


class _Newcomer(asyncio.Protocol):
    """A connection before it is known who it is."""

    def __init__(self, server: LinkServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._server.arrived(cast(asyncio.Transport, transport))


def peer_of(transport: asyncio.BaseTransport) -> tuple[int, int]:
    """Process id and user id at the other end, by the kernel's word."""
    sock = transport.get_extra_info("socket")
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


async def connect(path: Path, channel: Channel) -> None:
    """Connects ``channel`` to the server at ``path``. StoreDown: nobody listens there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_name(path) as name:
            sock.connect(name)
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=sock)
    except OSError as error:
        sock.close()
        raise StoreDown(f"nobody listens at {path}: {error.strerror or error}") from None


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """``path`` as a name that fits the 108 bytes of sun_path, however long it is."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
