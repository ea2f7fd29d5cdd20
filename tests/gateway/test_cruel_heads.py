"""Heads of replies that are nearly right (RFC 9112, 4, 6; RFC 9110, 15): 502 and an end, or passed on as they are."""

import pytest

from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.rig import Rig

R = b"HTTP/1.1 200 OK\r\n"
BAD = {
    "4-status-099": b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    "4-status-1000": b"HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n",
    "4-status-not-a-number": b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
    "4-two-spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "4-nul-in-phrase": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "4-control-in-phrase": b"HTTP/1.1 200 O\x0bK\r\nContent-Length: 0\r\n\r\n",
    "4-bare-cr-in-phrase": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "4-lower-case": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "4-version-2": b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "2.2-empty-line-first": b"\r\n" + OK,
    "2.2-empty-line-after-100": b"HTTP/1.1 100 Continue\r\n\r\n\r\n" + OK,
    "2.2-bare-lf-everywhere": OK.replace(b"\r\n", b"\n"),
    "6.3-list-of-same-lengths": R + b"Content-Length: 5, 5\r\n\r\nabcde",
    "6.3-plus": R + b"Content-Length: +2\r\n\r\nok",
    "6.3-hex": R + b"Content-Length: 0x2\r\n\r\nok",
    "6.1-coding-with-parameter": R + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
    "7.1-bare-lf-after-size": R + b"Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
    "7.1-sign": R + b"Transfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n",
    "7.1-endless-extension": R + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 600_000,
    "bounds-endless-103s": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20_000,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("way", ["whole", "apart"])
async def test_is_502(rig: Rig, upstream: CruelUpstream, name: str, way: str) -> None:
    """Said at once where no more bytes can mend it: the upstream stays open, and no time passes."""

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        half = len(BAD[name]) // 2 if way == "apart" else 0
        wire.send(BAD[name][:half])
        await wire.drained()
        wire.send(BAD[name][half:])
        await wire.gone()

    upstream.runs(script)
    client = await rig.client()
    client.ask()
    reply = await client.message(bodiless=True)
    while reply.status == 103:
        reply = await client.message(bodiless=True)
    if reply.status == 200:  # the head was good and is out: the body is torn
        assert name.startswith("7.1")
        await client.gone()
    else:
        assert reply.status == 502
    await until(lambda: upstream.wires[0].ended)
    entry = await rig.only_entry()
    assert (entry.outcome, entry.units) == ("upstream_failed", 0)
    assert rig.pool.targets[0].idle == []


async def test_several_interim_replies(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 15.2: 100 is ours to send, all others go on in order, before one reply; both connections are kept."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    early += b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n"
    upstream.answers(early + OK, OK)
    client = await rig.client()
    client.ask()
    heads = [await client.message(bodiless=True) for _ in range(3)]
    assert [(head.status, head.one("link")) for head in heads] == [(102, None), (103, b"</a>"), (103, b"</b>")]
    assert (await client.message()).body == b"ok"
    client.ask()
    assert (await client.message()).body == b"ok"
    assert len(upstream.wires) == 1


@pytest.mark.parametrize(
    "reply", [R + b"Content-Length: 2 \r\n\r\nok", R + b"transfer-encoding:\tChunked \r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
async def test_space_around_what_frames(rig: Rig, upstream: CruelUpstream, reply: bytes) -> None:
    """9110 5.5: it is no part of the value."""
    upstream.answers(reply, OK)
    client = await rig.client()
    for _ in range(2):
        client.ask()
        assert (await client.message()).body == b"ok"
    assert len(upstream.wires) == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_coding_where_no_body_is(rig: Rig, upstream: CruelUpstream, status: bytes) -> None:
    """9112 6.1, 6.3: no body, whatever the head says; its chunks are nobody's."""
    upstream.answers(b"HTTP/1.1 %b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n" % status)
    client = await rig.client()
    client.ask()
    reply = await client.message(bodiless=True)
    assert reply.one("content-length") is None
    client.ask()
    assert (await client.message()).body == b"ok"
    assert len(upstream.wires) == 2
