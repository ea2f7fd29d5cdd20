"""A caller who may no longer loses its WebSockets: with a close that says why, behind a whole frame, in time."""

import asyncio

import jwt
import pytest

from sidecar.core.values import AccessState, Tenant
from sidecar.identity import new_key
from tests.gateway.cruel import CruelUpstream, Wire, until
from tests.gateway.rig import TOKEN_SECRET, Client, Options, Rig
from tests.gateway.test_websockets import UPGRADE, Ends, switching

REASONS = {
    "revoked": b"key_revoked",
    "expired": b"key_expired",
    "suspended": b"tenant_suspended",
    "closed": b"tenant_closed",
}

JWT = ', jwt: {issuer: i, audience: a, tenant_claim: org, secret: "${TOKEN_SECRET}"}'


async def ends_of(rig: Rig) -> tuple[Ends, str]:
    """A tunnel of a tenant that the store knows, and its key's id."""
    store, clock = rig.app._store, rig.clock
    await store.add_tenant(Tenant("globex", "basic", created_ns=clock.wall_ns()), actor="test")
    row, minted = new_key(
        rig.app._peppers, "sc", tenant="globex", name="t", sandbox=False, scopes=None, expires_ns=None,
        now_ns=clock.wall_ns(),
    )  # fmt: skip
    await store.add_key(row, actor="test")
    wires: list[Wire] = switching(rig.upstream)
    client: Client = await rig.client()
    client.key = minted.text.encode()
    client.ask("GET /ws HTTP/1.1", *UPGRADE)
    assert (await client.message(bodiless=True)).status == 101
    return Ends(client, wires[0]), row.id


async def end(rig: Rig, key_id: str, how: str) -> None:
    """What an operator, a payment or the time does."""
    store, now_ns = rig.app._store, rig.clock.wall_ns()
    if how in ("suspended", "closed"):
        await store.set_tenant("globex", state=AccessState(how), actor="test", at_ns=now_ns)
        rig.app._resolver.forget_tenant("globex")
    else:
        await store.end_key(key_id, at_ns=now_ns, revoked=how == "revoked", actor="test")
        rig.app._resolver.forget_key(key_id)


def close(reason: bytes, code: bytes = b"\x03\xf0") -> bytes:
    return b"\x88" + bytes([2 + len(reason)]) + code + reason


def unmasked(frame: bytes) -> bytes:
    """What a client sends, as a server would (RFC 6455, 5.3); shorter than 126 bytes."""
    assert frame[1] & 0x80
    mask, payload = frame[2:6], frame[6:]
    return bytes([frame[0], frame[1] & 0x7F]) + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


@pytest.mark.parametrize("how", REASONS)
async def test_the_client_is_told_why(rig: Rig, how: str) -> None:
    """RFC 6455, 7.4.1: 1008, then the end of both sides; charged as the tunnel that it was."""
    ends, key_id = await ends_of(rig)
    ends.wire.send(b"\x81\x02hi")
    assert await ends.client.read(4) == b"\x81\x02hi"
    await end(rig, key_id, how)
    rig.advance(1.1)
    assert await ends.client.rest() == close(REASONS[how])
    assert unmasked(await ends.wire.rest()) == close(REASONS[how])
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.bytes_out, entry.tenant) == (101, "ok", 4, "globex")


async def test_another_call_that_learns_of_it_first_hides_nothing(rig: Rig) -> None:
    """The tenant is suspended, and the cache holds that already when the tunnel looks."""
    ends, key_id = await ends_of(rig)
    await end(rig, key_id, "suspended")
    other = await rig.client()
    other.key = ends.client.key
    other.ask("GET /x HTTP/1.1")
    assert (await other.message()).status == 402
    rig.advance(1.1)
    assert await ends.client.rest() == close(b"tenant_suspended")


@pytest.mark.parametrize("options", [Options(jwt=JWT)])
@pytest.mark.parametrize("how", ["suspended", "closed"])
async def test_a_tenant_whose_token_has_expired_is_still_that_tenant(rig: Rig, how: str) -> None:
    """A token that expires ends no WebSocket, and it must not keep one open for a tenant that is suspended."""
    now_s = rig.clock.wall_ns() // 1_000_000_000
    claims = {"iss": "i", "aud": "a", "org": "globex", "sub": "s", "iat": now_s, "exp": now_s + 60}
    token = jwt.encode(claims, TOKEN_SECRET, "HS256")
    await rig.app._store.add_tenant(Tenant("globex", "basic", created_ns=rig.clock.wall_ns()), actor="test")
    wires, client = switching(rig.upstream), await rig.client()
    head = "\r\n".join(["GET /ws HTTP/1.1", "Host: a", f"Authorization: Bearer {token}", *UPGRADE])
    client.send(head.encode() + b"\r\n\r\n")
    assert (await client.message(bodiless=True)).status == 101
    for _ in range(70):
        rig.advance(2)
        await until(lambda: not rig.lane.tasks)
    wires[0].send(b"\x81\x02hi")
    assert await client.read(4) == b"\x81\x02hi"
    await end(rig, "", how)
    rig.advance(1.1)
    await until(lambda: not rig.lane.tasks)
    assert await client.rest() == close(REASONS[how])
    assert unmasked(await wires[0].rest()) == close(REASONS[how])


async def test_what_is_only_read_only_goes_on(rig: Rig) -> None:
    ends, _ = await ends_of(rig)
    await rig.app._store.set_tenant("globex", state=AccessState.READ_ONLY, actor="test", at_ns=rig.clock.wall_ns())
    rig.app._resolver.forget_all()
    rig.advance(1.1)
    rig.advance(1.1)
    ends.wire.send(b"\x81\x02hi")
    assert await ends.client.read(4) == b"\x81\x02hi"


@pytest.mark.parametrize(
    ("before", "after"), [(b"\x81", b"\x05hello"), (b"\x81\x7e\x01", b"\x00" + bytes(256)), (b"\x81\x05he", b"llo")]
)
async def test_a_frame_under_way_is_finished_first(rig: Rig, before: bytes, after: bytes) -> None:
    """The close never stands in the middle of a frame, and nothing behind that frame is passed on."""
    ends, key_id = await ends_of(rig)
    ends.wire.send(before)
    assert await ends.client.read(len(before)) == before
    await end(rig, key_id, "revoked")
    rig.advance(1.1)
    while rig.lane.tasks:
        await asyncio.sleep(0)
    ends.client.send(b"\x81\x80\x00\x00\x00\x00")
    ends.wire.send(after + b"\x81\x05later")
    assert await ends.client.rest() == after + close(b"key_revoked")
    assert unmasked(await ends.wire.rest()) == close(b"key_revoked")
    assert (await rig.only_entry()).bytes_in == 0


async def test_a_frame_of_a_caller_who_may_no_longer_is_not_finished(rig: Rig) -> None:
    """The upstream sees the connection end in its middle, and no close in it."""
    ends, key_id = await ends_of(rig)
    ends.client.send(b"\x81\x85\x00\x00\x00\x00he")
    await ends.wire.read(8)
    await end(rig, key_id, "revoked")
    rig.advance(1.1)
    assert await ends.client.rest() == close(b"key_revoked")
    assert await ends.wire.rest() == b""


async def test_a_frame_that_never_ends_is_not_waited_for(rig: Rig, upstream: CruelUpstream) -> None:
    ends, key_id = await ends_of(rig)
    ends.wire.send(b"\x81\x05he")
    assert await ends.client.read(4) == b"\x81\x05he"
    await end(rig, key_id, "revoked")
    rig.advance(1.1)
    while rig.lane.tasks:
        await asyncio.sleep(0)
    rig.advance(1.9)
    assert rig.lane.tunnels
    rig.advance(0.2)
    assert await ends.client.rest() == b""
    assert (await rig.only_entry()).outcome == "ok"
