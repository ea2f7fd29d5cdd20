"""A row of a table: bytes from a client, and what must come of them on both sides."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.gateway.cruel import Message
from tests.gateway.rig import Client, Rig

H = b"Host: a\r\n"
CL3 = b"Content-Length: 3\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
SMUGGLED = b"GET /open/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
WAYS = ("whole", "dribbled")
_PROBE = b"GET /open/probe HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True)
class Row:
    """``sent`` gets ``replies`` in order (``200h``: to HEAD, without a body), then the connection ``stays`` or closes.
    The upstream sees exactly ``seen``: method, target and body of each request, with spaces between."""

    sent: bytes
    replies: str
    seen: tuple[bytes, ...] = ()
    stays: bool = False


def post(*fields: bytes, body: bytes = b"") -> bytes:
    """A POST without a key, to a route that takes it."""
    return b"POST /open/x HTTP/1.1\r\n" + H + b"".join(fields) + b"\r\n" + body


def get(*fields: bytes, target: bytes = b"/open/x") -> bytes:
    return b"GET %b HTTP/1.1\r\n" % target + H + b"".join(fields) + b"\r\n"


def refused(sent: bytes, status: int = 400) -> Row:
    """One answer, and the end: what stands behind it is never read as a request."""
    return Row(sent + SMUGGLED, str(status))


def passes(sent: bytes, *seen: bytes) -> Row:
    return Row(sent, "200", seen, stays=True)


async def play(rig: Rig, row: Row, way: str = "whole") -> list[Message]:
    """Sends the row's bytes and judges what comes of them; what the upstream got."""
    before = len(rig.upstream.requests)
    client = await rig.client()
    client.send(row.sent) if way == "whole" else await client.dribble(row.sent)
    for word in row.replies.split():
        status = int(word[:3])
        reply = await client.message(bodiless=status < 200 or status in (204, 304) or word.endswith("h"))
        assert reply.status == status, reply
    await (_stays(client) if row.stays else client.closes())
    client.close()
    got = rig.upstream.requests[before:]
    if row.stays:
        assert got.pop().start == b"GET /open/probe HTTP/1.1"
    assert tuple(b" ".join((*one.start.split()[:2], one.body)).rstrip(b" ") for one in got) == row.seen
    return got


async def _stays(client: Client) -> None:
    client.send(_PROBE)
    assert (await client.message()).body == b"ok"


def ways(table: Mapping[str, Row]) -> list[tuple[str, str]]:
    """Every row, each way; long ones whole only."""
    return [(name, way) for name, row in table.items() for way in WAYS if way == "whole" or len(row.sent) < 1000]
