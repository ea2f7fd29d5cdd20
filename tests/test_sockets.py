"""The listening sockets at a stop: who has come is accepted, nobody new comes, nobody is reset."""

import socket

import pytest

from sidecar.app.sockets import bind_groups, close_all, shut_out


async def test_newcomers_are_not_let_in_and_whoever_has_come_is_not_reset() -> None:
    groups = bind_groups("127.0.0.1", 0, 1)
    (listener,) = groups[0]
    listener.listen(8)
    address = listener.getsockname()
    with socket.create_connection(address) as early, socket.socket() as late:
        await shut_out(groups)
        late.setblocking(False)
        late.connect_ex(address)
        accepted, peer = listener.accept()
        assert peer == early.getsockname()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):  # over loopback a handshake is over when connect returns
            listener.accept()
        close_all(groups)
        with accepted:
            early.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
