"""What a full journal and a slow disk mean for the calls: the policy decides, and nothing is lost or held for ever."""

import asyncio

import pytest

from tests.gateway.cruel import OK, PATIENCE_S, Wire
from tests.gateway.rig import Options, Rig
from tests.gateway.test_websockets import tunnel

SMALL = "segment: 64KiB, max: 256KiB"
ONE_AT_ONCE = "concurrency: [{name: one, limit: 1, scope: [key]}]"
SYNC = "durability: sync, group: 1ms, segment: 256KiB, max: 4MiB"


async def fill(rig: Rig) -> int:
    """Calls until the journal is full, while the ledger takes nothing; how many were answered 200."""
    for count in range(5_000):
        reply = await rig.call()
        if reply.status != 200:
            assert (reply.status, b"journal_full" in reply.body) == (503, True)
            assert reply.one("retry-after") == b"1"
            return count
    raise AssertionError("the journal has no bound")


@pytest.mark.parametrize("options", [Options(journal=SMALL)])
async def test_a_full_journal_refuses_before_anything_is_forwarded(rig: Rig) -> None:
    await rig.app._shipper._step.acquire()
    served = await fill(rig)
    forwarded = len(rig.upstream.requests)
    assert served == forwarded > 10
    assert (await rig.call()).status == 503
    assert len(rig.upstream.requests) == forwarded
    rig.app._shipper._step.release()
    assert len(await rig.ledger()) == served
    assert (await rig.call()).status == 200  # it recovers alone once the ledger takes what there is
    assert len(await rig.ledger()) == served + 1
    held = rig.app._admission.usage_of("acme")
    assert [policy.used for policy in held if policy.kind == "quota"] == [served + 1]


@pytest.mark.parametrize("options", [Options(journal=f"{SMALL}, on_full: serve_unbilled")])
async def test_a_policy_may_serve_unbilled(rig: Rig) -> None:
    await rig.app._shipper._step.acquire()
    for _ in range(5_000):
        assert (await rig.call()).status == 200
        if rig.lane.unbilled:
            break
    assert rig.lane.reading().unbilled == 1
    rig.app._shipper._step.release()
    assert len(await rig.ledger()) == len(rig.upstream.requests) - 1


@pytest.mark.parametrize("options", [Options(journal=SYNC)])
async def test_sync_gives_the_reply_after_the_fsync(rig: Rig) -> None:
    """The reply's end waits for the group's fsync; many calls share one."""
    async with asyncio.timeout(PATIENCE_S):
        replies = await asyncio.gather(*(rig.call() for _ in range(20)))
    assert [reply.status for reply in replies] == [200] * 20
    assert len(await rig.ledger()) == 20


@pytest.mark.parametrize("options", [Options(plan=ONE_AT_ONCE), Options(plan=ONE_AT_ONCE, journal=SYNC)])
async def test_a_journal_that_fails_at_the_end_holds_nobody(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The reply is not whole for the client, since it is not written down; place and quota are settled."""

    async def script(wire: Wire) -> None:
        await rig.upstream.take(wire)
        (intent,) = rig.open_records()
        rig.journal.max_payload = len(intent)  # a done record is longer
        wire.send(OK)
        await rig.upstream.take(wire)
        wire.send(OK)

    rig.upstream.runs(script)
    client = await rig.client()
    client.ask()
    assert await client.rest() == b""
    assert rig.app._tallies.route("all").in_flight == 0
    (lost,) = rig.open_records()
    assert f"call {lost[1:37].decode()} is not in the journal" in caplog.text
    rig.journal.max_payload = 8192
    assert (await rig.call()).status == 200


@pytest.mark.parametrize("options", [Options(journal=SYNC)])
async def test_a_disk_that_keeps_nothing_ends_the_wait(rig: Rig) -> None:
    sync = rig.journal._sync
    assert sync is not None

    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    good, sync._fsync = sync._fsync, fails
    client = await rig.client()
    client.ask()
    async with asyncio.timeout(4 * PATIENCE_S):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.reader.readuntil(b"\r\n\r\n")
    sync._fsync = good


async def test_a_tunnel_whose_record_cannot_be_written_is_not_said_to_be_recorded(rig: Rig) -> None:
    """Nor does its client get the rest of what was under way."""
    await tunnel(rig)
    (one,) = rig.lane.tunnels
    rig.journal.max_payload, usual = 10, rig.journal.max_payload
    assert not one._call.tunnel_over()
    assert not await one._call.synced()
    rig.journal.max_payload = usual
