"""The PROXY protocol (haproxy.org, proxy-protocol.txt): believed of trusted proxies, to the byte, within a time."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gateway.preamble import SIGNATURE, BadPreamble, _crc32c, length_of, read_block, read_line
from tests.certify import Authority
from tests.gateway.cruel import until
from tests.gateway.rig import Client, Options, Rig

ON = "proxy_protocol: true"
TRUSTED = Options(trusted="127.0.0.0/8", top=ON)


def block(address: str, *, command: int = 1, family: int | None = None, tlvs: bytes = b"", length: int = -1) -> bytes:
    """Version 2 for a client at ``address``."""
    six = ":" in address
    packed = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, address)
    body = packed * 2 + (40000).to_bytes(2, "big") + (443).to_bytes(2, "big") + tlvs
    kind = (0x21 if six else 0x11) if family is None else family
    size = len(body) if length < 0 else length
    return SIGNATURE + bytes([0x20 | command, kind]) + size.to_bytes(2, "big") + body


async def dialled(rig: Rig, preamble: bytes) -> Client:
    client = await rig.client()
    client.send(preamble)
    return client


@pytest.mark.parametrize("options", [TRUSTED])
@pytest.mark.parametrize(
    ("preamble", "ip"),
    [
        (b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 443\r\n", b"203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 40000 443\r\n", b"2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", b"127.0.0.1"),
        (block("203.0.113.7"), b"203.0.113.7"),
        (block("2001:db8::7", tlvs=b"\x02\x00\x03abc"), b"2001:db8::7"),
        (block("203.0.113.7", command=0), b"127.0.0.1"),
    ],
)
async def test_the_address_that_the_proxy_says_counts(rig: Rig, preamble: bytes, ip: bytes) -> None:
    """For X-Forwarded-For, and with it for limits by address; however the bytes are split."""
    for pieces in ([preamble], [preamble[:9], preamble[9:14], preamble[14:]], [bytes([b]) for b in preamble]):
        client = await rig.client()
        for piece in pieces:
            client.send(piece)
            await client.drained()
        client.ask()
        assert (await client.message()).status == 200
        assert rig.upstream.requests[-1].one("x-forwarded-for") == ip
        client.close()


@pytest.mark.parametrize("options", [TRUSTED])
@pytest.mark.parametrize(
    "preamble",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 443\n\n",
        b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 65536\r\n",
        b"PROXY TCP4  203.0.113.7 127.0.0.1 40000 443\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 40000 443\r\n",
        b"PROXY TCP4 203.0.113.007 127.0.0.1 40000 443\r\n",
        b"PROXY UDP4 203.0.113.7 127.0.0.1 40000 443\r\n",
        b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
        b"proxy tcp4 203.0.113.7 127.0.0.1 40000 443\r\n",
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        block("203.0.113.7", family=0x12),
        block("203.0.113.7", family=0x21),
        block("203.0.113.7", length=4097),
        block("203.0.113.7", tlvs=b"\x02\x00\x09abc"),
        block("203.0.113.7", tlvs=b"\x03\x00\x04\x00\x00\x00\x00"),
    ],
)
async def test_what_is_not_the_protocol_ends_the_connection(rig: Rig, preamble: bytes) -> None:
    """Without a word: it cannot be known who would read it."""
    client = await dialled(rig, preamble)
    client.ask()
    await client.gone()
    assert rig.upstream.requests == []
    await until(lambda: not rig.lane.connections and not rig.lane.per_ip)


@pytest.mark.parametrize("options", [TRUSTED])
async def test_silence_ends_with_the_time_of_a_head(rig: Rig) -> None:
    client = await dialled(rig, b"PROXY TCP4 203.0.113.7 ")
    await until(lambda: len(rig.lane.connections) == 1)
    rig.advance(14)
    assert len(rig.lane.connections) == 1
    rig.advance(2)
    await client.gone()
    await until(lambda: not rig.lane.connections and not rig.lane.per_ip)


@pytest.mark.parametrize("options", [Options(trusted="10.0.0.0/8", top=ON)])
async def test_whoever_is_not_trusted_speaks_http_and_nothing_else(rig: Rig) -> None:
    client = await rig.client()
    client.ask()
    assert (await client.message()).status == 200
    liar = await dialled(rig, b"PROXY TCP4 10.0.0.1 127.0.0.1 40000 443\r\n")
    liar.ask()
    assert (await liar.message()).status == 400
    assert len(rig.upstream.requests) == 1


@pytest.mark.parametrize(
    "options", [Options(trusted="127.0.0.0/8", top=ON, bounds="max_connections: 2, max_connections_per_ip: 2")]
)
async def test_those_that_have_not_spoken_count_too(rig: Rig) -> None:
    for _ in range(2):
        await dialled(rig, b"PROXY ")
    await until(lambda: len(rig.lane.connections) == 2)
    await (await rig.client()).gone()


@pytest.mark.parametrize("options", [TRUSTED])
async def test_tls_begins_behind_it(tmp_path: Path, rig: Rig) -> None:
    """In one segment with the client's first bytes: nothing of them is lost."""
    authority = Authority(tmp_path)
    certificate, key = authority.sign("sidecar.test", dns=("sidecar.test",))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    plain = socket.create_server(("127.0.0.1", 0))
    site = rig.app._lane_runner.site(plain, context, backlog=8)
    await site.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", plain.getsockname()[1])
    writer.write(block("203.0.113.7"))
    await writer.start_tls(ssl.create_default_context(cafile=str(authority.file)), server_hostname="sidecar.test")
    client = Client(reader, writer, rig.key)
    client.ask()
    assert (await client.message()).status == 200
    assert rig.upstream.requests[-1].one("x-forwarded-for") == b"203.0.113.7"
    client.close()
    await until(lambda: not rig.lane.connections)
    await site.stop()


def test_the_checksum_is_that_of_rfc_3720() -> None:
    """RFC 3720, B.4, and a right one in a preamble."""
    assert _crc32c(bytes(32)) == 0x8A9136AA
    assert _crc32c(b"\xff" * 32) == 0x62A8AB43
    empty = block("203.0.113.7", tlvs=b"\x03\x00\x04\x00\x00\x00\x00")
    right = empty[:-4] + _crc32c(empty).to_bytes(4, "big")
    assert read_block(right[:16], right[16:]) == "203.0.113.7"


@given(st.binary(max_size=300))
def test_no_bytes_break_it(data: bytes) -> None:
    """An address, nothing, or BadPreamble; never another error."""
    for head in (SIGNATURE + data[:4].ljust(4, b"\0"), data[:16].ljust(16, b"\0")):
        try:
            length_of(head)
            said = read_block(head, data[4:])
        except BadPreamble:
            continue
        assert said is None or "." in said or ":" in said
    try:
        read_line(b"PROXY " + data)
    except BadPreamble:
        pass
