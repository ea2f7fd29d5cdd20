"""Arbitrary and mutated bytes into a client connection, cut anywhere: no exception, and the cuts do not matter."""

import asyncio
import ipaddress
import itertools
import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.gateway import ClientConnection
from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Options, Rig, start_rig

_PEERS = (ipaddress.ip_address("10.0.0.0") + n for n in itertools.count())
_BAD = {b"400", b"405", b"414", b"431", b"501", b"505"}
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_VALID = [
    b"GET /open/a?b=c HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /open/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /open/b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /open/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: u\r\n\r\n",
    b"GET /closed HTTP/1.1\r\nHost: a\r\nX-API-Key: no\r\n\r\n",
    b"FOO /open/d HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n",
    b"GET http://b/open/e HTTP/1.0\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    b"GET /open/ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
]


class FakeTransport(asyncio.Transport):
    """Keeps what is written; a socket whose client reads everything at once."""

    def __init__(self, ip: str) -> None:
        super().__init__({"peername": (ip, 1)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def _still(rig: Rig) -> None:
    quiet = 0
    while quiet < 4:
        await asyncio.sleep(0)
        quiet = 0 if rig.lane.tasks else quiet + 1


async def _statuses(rig: Rig, pieces: list[bytes]) -> list[bytes]:
    # An address of its own, because failures to authenticate are throttled by address.
    transport, connection = FakeTransport(str(next(_PEERS))), ClientConnection(rig.lane)
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
    async with asyncio.timeout(10):
        await _still(rig)
    connection.connection_lost(None)
    await _still(rig)
    # Which of its faults a request is refused for depends on which was seen first.
    return [b"4xx" if status in _BAD else status for status in _STATUS.findall(bytes(transport.written))]


def _cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


_MUTATION = st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(min_size=1, max_size=3))


def _mutate(requests: list[bytes], mutations: list[tuple[int, int, bytes]]) -> bytes:
    data = b"".join(requests)
    for at, gone, new in mutations:
        at %= len(data) + 1
        data = data[:at] + new + data[at + gone :]
    return data


_BYTES = st.one_of(
    st.binary(max_size=200),
    st.builds(_mutate, st.lists(st.sampled_from(_VALID), min_size=1, max_size=4), st.lists(_MUTATION, max_size=3)),
)


def test_any_bytes_in_any_pieces() -> None:
    """The upstream refuses connections, so each whole request is answered with what was decided about it.

    A refusal may close the connection where the rest of a body was still to come, so one row of answers may be the
    beginning of the other, but they never differ.
    """
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        upstream = CruelUpstream()
        runner.run(upstream.start())
        runner.run(upstream.stop())
        rig = runner.run(start_rig(Path(folder), upstream, Options()))

        @settings(max_examples=250)
        @given(_BYTES, st.lists(st.integers(0, 10_000), max_size=6))
        def check(data: bytes, at: list[int]) -> None:
            whole = runner.run(_statuses(rig, [data]))
            parts = runner.run(_statuses(rig, _cut(data, at)))
            single = runner.run(_statuses(rig, [data[n : n + 1] for n in range(len(data))]))
            for other in (parts, single):
                shared = min(len(whole), len(other))
                assert whole[:shared] == other[:shared]
                assert bool(whole) == bool(other)

        try:
            check()
            assert rig.journal.readings().open_calls == 0
            assert not rig.lane.connections
            assert not rig.lane.per_ip
        finally:
            runner.run(rig.stop())
