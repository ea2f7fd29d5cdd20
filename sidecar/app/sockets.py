"""The sockets that clients connect to, where several processes accept: one group per worker, by SO_REUSEPORT.

The parent holds all of them for as long as it runs, so no connection that waits in one is lost when a worker ends.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import socket
import struct
from typing import Any, Final, TypeAlias

BACKLOG = 1024
HANDSHAKES_S: Final = 0.1  # from a client's SYN until its connection waits to be accepted
# Classic BPF (socket(7), linux/filter.h): byte 13 of a TCP segment, its flags; SYN is dropped, everything else taken.
_NO_SYN: Final = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x02), (0x15, 0, 1, 0), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0))
_SO_ATTACH_FILTER: Final = 26
Group: TypeAlias = list[socket.socket]  # one socket per address of the host
_Address: TypeAlias = tuple[int, tuple[Any, ...]]


def bind_groups(host: str, port: int, count: int, *, joining: bool = False) -> list[Group]:
    """``count`` groups of sockets at the same addresses, not yet listening; ``joining`` others that are there. OSError
    names host and port."""
    addresses = _resolved(host, port)
    made: list[Group] = []
    try:
        if port and not joining:
            _probe(addresses, host, port)
        for _ in range(count):
            group: Group = []
            made.append(group)
            for family, address in addresses:
                if not port and made[0]:  # the kernel chose one for the first socket: the others take the same
                    address = (address[0], made[0][0].getsockname()[1], *address[2:])
                group.append(_bound(family, address, host, port, shared=True))
    except OSError:
        close_all(made)
        raise
    return made


def _resolved(host: str, port: int) -> list[_Address]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _probe(addresses: list[_Address], host: str, port: int) -> None:
    """Sockets that share a port do not notice another program of the same user that shares it too."""
    for family, address in addresses:
        _bound(family, address, host, port, shared=False).close()


def _bound(family: int, address: Any, host: str, port: int, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        number = error.errno or errno.EADDRINUSE
        why = f"error while attempting to bind on address ({host!r}, {port}): {os.strerror(number)}"
        raise OSError(number, why) from None
    return sock


def adopted(fd: int) -> socket.socket:
    """An inherited socket; closing it leaves the inherited one open."""
    return socket.socket(fileno=os.dup(fd))


def place_of(group: Group) -> str:
    """The ``host:port`` that the group is bound to."""
    host, port = group[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def shut_out(groups: list[Group]) -> None:
    """Nobody new comes any more, and whoever has come is accepted: to be closed when this returns. A close resets what
    waits in a socket, though its client takes it for connected; a client whose SYN is dropped sends it again a second
    later, and is refused then, or let in by whoever listens instead. For the last holder of the sockets alone."""
    code = b"".join(struct.pack("HBBI", *line) for line in _NO_SYN)
    held = ctypes.create_string_buffer(code)
    for sock in (sock for group in groups for sock in group):
        with contextlib.suppress(OSError):  # not Linux, or forbidden: then the moment below is all there is
            filtered = struct.pack("HL", len(_NO_SYN), ctypes.addressof(held))
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtered)
    await asyncio.sleep(HANDSHAKES_S)


def close_all(groups: list[Group]) -> None:
    for group in groups:
        for sock in group:
            sock.close()
