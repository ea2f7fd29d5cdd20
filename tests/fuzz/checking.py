"""One input through the lane, and what must hold whatever it was."""

from collections.abc import Sequence
from random import Random

from tests.fuzz import reading
from tests.fuzz.generating import KEY, cut
from tests.fuzz.memory import MemoryLane, MemoryTransport
from tests.fuzz.reading import Asked, Broken, Said

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASKS = {
    b"GET": b"GET /open/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD": b"HEAD /open/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST": b"POST /open/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"ws": b"GET /open/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
}


class Wrong(AssertionError):
    """Something that must hold does not."""


class _Server:
    """An upstream that answers every whole request with ``ok``, read by h11 alone."""

    def __init__(self, lane: MemoryLane) -> None:
        self._lane = lane
        self.got: list[Asked] = []
        self.torn: list[MemoryTransport] = []
        self.open()

    def open(self) -> None:
        transport = self._lane.upstream()
        self._seen = 0
        transport.on_write = lambda: self._lane.loop.call_soon(self._serve, transport)
        self.transport = transport

    def turn(self, times: int) -> None:
        """Lets the lane go on; a connection that was closed is replaced, so that none is opened outside of memory."""
        self._lane.turn(times)
        if self.transport.closed:
            self.open()

    def _serve(self, transport: MemoryTransport) -> None:
        while transport.out:
            try:
                read = reading.next_request(bytes(transport.out))
            except Broken as error:
                raise Wrong(f"what is forwarded is no request: {error}: {bytes(transport.out)!r}") from None
            if read is None:
                break
            asked, size = read
            if len(asked.framing) > 1:
                raise Wrong(f"what is forwarded has two framings: {asked}")
            del transport.out[:size]
            self.got.append(asked)
            transport.feed(_OK if asked.method != b"HEAD" else _OK[:-2])


def check_requests(lane: MemoryLane, data: bytes, pieces: Sequence[bytes]) -> None:
    """The client's bytes. Each request that reaches the upstream is one that h11 reads in them too, with the same body;
    each reply is whole, and there are no more of them than requests; nothing is left behind."""
    server = _Server(lane)
    client = lane.client()
    for number, piece in enumerate(pieces):
        client.feed(piece)
        if len(pieces) < 8 or number % 32 == 0:
            server.turn(1)
    before = (-1, -1)
    while before != (len(server.got), len(client.out)):
        before = len(server.got), len(client.out)
        server.turn(3)
    asked, _, _ = reading.requests(data)
    _same(server.got, asked)
    _replies(client, asked)
    client.end()
    lane.turn(1)
    client.end(reset=True)
    server.transport.end(reset=True)
    lane.turn(2)
    left_over = lane.leftovers()
    if left_over is not None:
        raise Wrong(left_over)


def _same(got: Sequence[Asked], asked: Sequence[Asked]) -> None:
    """Whether what was forwarded is, in order, among what was asked."""
    rest = iter(asked)
    for one in got:
        for other in rest:
            target = one.target == other.target or (one.target, other.method, other.target) == (b"*", b"OPTIONS", b"/")
            if (one.method, one.body) == (other.method, other.body) and target:
                break
        else:
            raise Wrong(f"forwarded, and not asked: {one} in {asked}")


def _replies(client: MemoryTransport, asked: Sequence[Asked]) -> None:
    methods = [one.method for one in asked]
    if client.cut:
        return
    said: list[Said] = []
    left = b""
    for refused in (b"GET", b"HEAD"):  # of what is refused nobody can be sure which it was
        try:
            said, left = reading.replies(bytes(client.out), [*methods, refused], ended=client.closed)
        except Broken as error:
            raise Wrong(f"what the client gets is no reply: {error}") from None
        if not left:
            break
    body_of_refusal = bool(said) and said[-1].close and said[-1].status >= 400 and left.startswith(b"{")
    if body_of_refusal:
        return  # of a HEAD that was not understood as one; the connection ends behind it
    if left and b"HTTP/1.1 101 " not in left and b"HTTP/1.1 100 " not in left:
        raise Wrong(f"bytes behind the last reply, or a reply that is not whole: {left!r}")
    if any(one.close for one in said[:-1]):
        raise Wrong("a reply follows one that closes")
    if len(said) > len(asked) and said[-1].status < 400 and said[-1].status != 204:  # an OPTIONS that we answer
        raise Wrong(f"more replies than requests: {said}")


def check_reply(lane: MemoryLane, method: bytes, data: bytes, pieces: Sequence[bytes], *, reset: bool) -> None:
    """The upstream's bytes. The client gets a whole reply that h11 reads alike, or is cut off; what follows a reply is
    nobody's; a connection that is used again had said exactly one reply."""
    transport = lane.upstream()
    client = lane.client()
    client.feed(ASKS[method])
    lane.turn(1)
    for piece in pieces:
        transport.feed(piece)
    again = lane.idle(transport)
    lane.turn(1)
    tunnel = client.out.startswith(b"HTTP/1.1 101 ")
    real = b"GET" if method == b"ws" else method
    if again:
        said, left = _upstream_said(data, real, ended=False)
        if said is None or left:
            raise Wrong(f"the upstream's connection is used again after {data!r}")
    transport.end(reset=reset)
    lane.turn(2)
    if not tunnel and not client.cut:
        _reply_is_whole(client, data, real, reset=reset)
    client.end()
    lane.turn(1)
    client.end(reset=True)
    lane.turn(2)
    left_over = lane.leftovers()
    if left_over is not None:
        raise Wrong(left_over)


def _reply_is_whole(client: MemoryTransport, data: bytes, method: bytes, *, reset: bool) -> None:
    try:
        said, left = reading.replies(bytes(client.out), [method], ended=client.closed)
    except Broken as error:
        raise Wrong(f"what the client gets is no reply: {error}") from None
    if left or len(said) != 1:
        raise Wrong(f"not exactly one reply: {bytes(client.out)!r}")
    if b"application/problem+json" in client.out:
        return
    theirs, _ = _upstream_said(data, method, ended=not reset)
    if theirs is None or (theirs.status, theirs.body) != (said[0].status, said[0].body):
        raise Wrong(f"the upstream said {theirs}, the client heard {said[0]}")


def _upstream_said(data: bytes, method: bytes, *, ended: bool) -> tuple[Said | None, bytes]:
    try:
        said, left = reading.replies(data, [method], ended=ended)
    except Broken:
        return None, data
    return (said[0], left) if said else (None, left)


def with_key(lane: MemoryLane, data: bytes) -> bytes:
    """``data`` with a good key; to be cut afterwards, or nobody would know it."""
    return data.replace(KEY, lane.rig.key.encode())


def one(lane: MemoryLane, rng: Random, kind: str, data: bytes) -> None:
    """Checks one input through the lane, whole or in pieces as chance says."""
    data = with_key(lane, data)
    pieces = cut(rng, data)
    try:
        if kind == "requests":
            check_requests(lane, data, pieces)
        else:
            check_reply(lane, rng.choice(sorted(ASKS)), data, pieces, reset=rng.random() < 0.3)
    except Wrong as error:
        error.add_note(f"in pieces of {[len(piece) for piece in pieces]} bytes")
        raise
