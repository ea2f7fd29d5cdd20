"""The tee on a reply holds and changes nothing of it; what the upstream says about its cost goes no further."""

import gzip

import pytest

from sidecar.core.records import indeterminate
from sidecar.metering import Watch
from tests.gateway.cruel import CruelUpstream, Wire, until
from tests.gateway.rig import Options, Rig, quotas_over

METERS = """\
  tokens: {from: [response.json, response.sse], path: $.usage.tokens, take: last}
  words: {from: response.trailer, header: X-Words, default: 7}"""
ROUTES = """\
  - {name: all, match: {path: "/{path...}"}, upstream: api, units: 3}
  - {name: drain, match: {path: "/drain"}, upstream: api, units: 3, on_disconnect: drain}
  - {name: partial, match: {path: "/partial"}, upstream: api, units: 3, on_disconnect: partial}
  - {name: cancel, match: {path: "/cancel"}, upstream: api, units: 3, on_disconnect: cancel}
  - {name: bill, match: {path: "/bill"}, upstream: api, units: 3, on_indeterminate: bill}"""
METERED = Options(meters=METERS, quotas=quotas_over("tokens", "words"), routes=ROUTES)
COSTS = "per_call: 0.001 USD, memory_header: X-Memory-Bytes, external_header: X-External-Cost, per_gib_s: 1 USD"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(tokens: int) -> bytes:
    return chunked(b'data: {"usage": {"tokens": %d}}\n\n' % tokens)


def plain(body: bytes, *lines: bytes) -> bytes:
    return JSON + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("options", [METERED])
async def test_each_chunk_passes_before_the_next_is_sent(rig: Rig, upstream: CruelUpstream) -> None:
    wires: list[Wire] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(SSE)
        wires.append(wire)

    upstream.runs(script)
    client = await rig.client()
    client.ask()
    await client.reader.readuntil(b"\r\n\r\n")
    for tokens in range(5):
        piece = event(tokens)
        for part in (piece[:-2][len(b"1f\r\n") :][:10], piece[:-2][len(b"1f\r\n") :][10:]):
            wires[0].send(chunked(part))
            assert await client.read(len(chunked(part))) == chunked(part)
    wires[0].send(b"0\r\nX-Words: 11\r\n\r\n")
    assert await client.reader.readuntil(b"\r\n\r\n") == b"0\r\nX-Words: 11\r\n\r\n"
    assert (await rig.only_entry()).meters == {"requests": 1, "tokens": 4, "words": 11}


@pytest.mark.parametrize("options", [METERED])
async def test_a_compressed_reply_is_the_same_to_the_byte(rig: Rig, upstream: CruelUpstream) -> None:
    body = gzip.compress(b'{"usage": {"tokens": 42}}')
    upstream.answers(plain(body, b"Content-Encoding: gzip"))
    reply = await rig.call("GET / HTTP/1.1", "Accept-Encoding: gzip")
    assert (reply.body, reply.one("content-encoding")) == (body, b"gzip")
    assert (await rig.only_entry()).meters == {"requests": 1, "tokens": 42, "words": 7}


@pytest.mark.parametrize("options", [METERED])
async def test_a_value_that_is_missing_is_an_anomaly(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(plain(b"{}"))
    assert (await rig.call()).body == b"{}"
    assert (await rig.only_entry()).meters == {"requests": 1, "tokens?": 1, "words": 7}
    assert rig.app._tallies.read().anomalies == {("tokens", "missing"): 1}


@pytest.mark.parametrize("options", [METERED])
async def test_a_reply_without_a_body_is_no_anomaly(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(JSON + b"Content-Length: 30\r\n\r\n")
    assert (await rig.call("HEAD / HTTP/1.1")).status == 200
    upstream.answers(b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n")
    rig.pool.targets[0].idle[0][0].close()
    assert (await rig.call("GET / HTTP/1.1", "If-None-Match: a")).status == 304
    assert [entry.meters for entry in await rig.ledger()] == [{"requests": 1, "words": 7}] * 2
    assert rig.app._tallies.read().anomalies == {}


@pytest.mark.parametrize("options", [METERED])
@pytest.mark.parametrize(
    ("path", "units", "meters"),
    [
        ("/drain", 3, {"requests": 1, "tokens": 9, "words": 7}),
        ("/partial", 3, {"requests": 1, "tokens": 5, "words?": 1}),
        ("/cancel", 0, {}),
    ],
)
async def test_the_client_leaves_a_metered_stream(
    rig: Rig, upstream: CruelUpstream, path: str, units: int, meters: dict[str, int]
) -> None:
    """litellm#14457, #36008, #17364: a stream whose client went away was billed for nothing, or went on for ever."""
    go: list[bool] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(SSE + event(5))
        await until(lambda: bool(go))
        wire.send(event(9) + b"0\r\n\r\n")

    upstream.runs(script)
    client = await rig.client()
    client.ask(f"GET {path} HTTP/1.1")
    await client.reader.readuntil(b"}}\n\n")
    client.reset()
    await until(lambda: not rig.lane.connections)
    go.append(True)
    entry = await rig.only_entry()
    assert (entry.outcome, entry.units, entry.meters) == ("client_gone", units, meters)


@pytest.mark.parametrize("options", [METERED])
async def test_a_drain_has_an_end(rig: Rig, upstream: CruelUpstream) -> None:
    """litellm#36008: an upstream that never ends is read for a minute at most, and charged as far as it was read."""

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(SSE + event(5))

    upstream.runs(script)
    client = await rig.client()
    client.ask("GET /drain HTTP/1.1")
    await client.reader.readuntil(b"}}\n\n")
    client.reset()
    await until(lambda: bool(rig.lane.abandoned))
    rig.advance(30)
    (row,) = rig.open_records()
    assert indeterminate(row).meters == {"requests": 1, "tokens": 5, "words?": 1}  # marks go on without a client
    upstream.wires[0].send(event(6))
    await until(lambda: next(iter(rig.lane.abandoned)).bytes_out > 40)
    rig.advance(31)
    assert (await rig.only_entry()).meters == {"requests": 1, "tokens": 6, "words?": 1}


@pytest.mark.parametrize("options", [METERED])
async def test_a_long_reply_says_how_far_it_is(rig: Rig, upstream: CruelUpstream) -> None:
    wires: list[Wire] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wires.append(wire)

    upstream.runs(script)
    client = await rig.client()
    client.ask()
    await until(lambda: bool(wires))
    rig.advance(6)
    assert [row[:1] for row in rig.open_records()] == [b'"']  # no reply yet
    wires[0].send(SSE + event(5))
    await client.reader.readuntil(b"}}\n\n")
    rig.advance(6)
    (first,) = rig.open_records()
    found = indeterminate(first)
    assert (found.status, found.units, found.bytes_out, found.meters["tokens"]) == (200, 3, 32, 5)
    rig.advance(4)
    assert rig.open_records() == [first]
    rig.advance(1)
    assert rig.open_records() != [first]
    wires[0].send(b"0\r\n\r\n")
    await client.reader.readuntil(b"0\r\n\r\n")
    entry = await rig.only_entry()
    assert (entry.outcome, entry.meters["tokens"]) == ("ok", 5)
    assert rig.app._tallies.read().anomalies == {}


@pytest.mark.parametrize("options", [Options(routes=ROUTES, costs=COSTS)])
@pytest.mark.parametrize(("path", "expected"), [("/bill", (3, 1_000, {"requests": 1})), ("/free", (0, 0, {}))])
async def test_what_a_call_counts_as_that_never_ends(
    rig: Rig, upstream: CruelUpstream, path: str, expected: tuple[int, int, dict[str, int]]
) -> None:
    async def script(wire: Wire) -> None:
        await upstream.take(wire)

    upstream.runs(script)
    client = await rig.client()
    client.ask(f"GET {path} HTTP/1.1")
    await until(lambda: bool(upstream.requests))
    (row,) = rig.open_records()
    found = indeterminate(row)
    assert (found.units, found.cost, found.meters) == expected
    assert (found.status, found.bytes_in, found.total_us, found.outcome) == (0, 0, 0, "indeterminate")


@pytest.mark.parametrize("options", [Options(costs=COSTS)])
async def test_costs_that_the_upstream_reports(rig: Rig, upstream: CruelUpstream) -> None:
    """Read, counted, and kept from the client, in the head and in trailers, also where the head is remembered."""
    answer = plain(b"{}", b"X-External-Cost: 0.25", b"X-Memory-Bytes: 1024", b"X-Other: 1")
    trailed = JSON + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-External-Cost: 1\r\nX-Sum: 2\r\n\r\n"
    upstream.answers(answer, answer, trailed)
    client = await rig.client()
    for _ in range(2):
        client.ask("GET /told HTTP/1.1")
        reply = await client.message()
        assert (reply.one("x-external-cost"), reply.one("x-memory-bytes"), reply.one("x-other")) == (None, None, b"1")
        assert reply.one("x-compute-cost") == b"0.251000 USD"
    client.ask("GET /told HTTP/1.1")
    assert (await client.message()).trailers == [(b"X-Sum", b"2")]
    assert [entry.cost for entry in await rig.ledger()] == [251_000, 251_000, 1_000]


@pytest.mark.parametrize("options", [Options(costs=COSTS)])
async def test_costs_that_make_no_sense_are_counted(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(plain(b"{}", b"X-External-Cost: much"))
    assert (await rig.call()).status == 200
    assert (await rig.only_entry()).cost == 1_000
    assert rig.app._tallies.read().anomalies == {("_cost", "external_malformed"): 1}


@pytest.mark.parametrize("options", [METERED])
@pytest.mark.parametrize("place", ["body", "end"])
async def test_a_fault_of_the_tee_does_not_hold_the_reply(
    rig: Rig, upstream: CruelUpstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    """It looks at foreign bytes inside the upstream's read: without a guard the client would wait for ever."""

    def broken(watch: Watch, data: bytes) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(Watch, place, broken)
    upstream.answers(plain(b'{"usage": {"tokens": 42}}'))
    assert (await rig.call()).body == b'{"usage": {"tokens": 42}}'
    entry = await rig.only_entry()
    assert (entry.outcome, entry.meters) == ("ok", {"requests": 1, "tokens?": 1, "words?": 1})
    assert "is not watched to its end" in caplog.text
