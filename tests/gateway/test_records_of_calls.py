"""After each exchange: exactly one usage record, with what really happened; a refused request leaves none."""

from pathlib import Path

import pytest

from sidecar.admin.shapes import metered
from sidecar.app import open_offline
from tests.gateway.cruel import CruelUpstream, Wire
from tests.gateway.rig import Options, Rig


async def test_a_plain_call(rig: Rig, upstream: CruelUpstream) -> None:
    reply = await rig.call("POST /a?b=c HTTP/1.1", "Content-Length: 5", body=b"hello")
    assert (reply.status, reply.body) == (200, b"ok")
    entry = await rig.only_entry()
    assert entry.event_id == reply.one("x-request-id").replace(b"-", b"").decode()
    assert upstream.requests[0].one("x-request-id") == reply.one("x-request-id")
    assert (entry.tenant, entry.key_id, entry.route, entry.method) == ("acme", rig.key_id, "all", "POST")
    assert (entry.status, entry.outcome, entry.units) == (200, "ok", 3)
    assert (entry.bytes_in, entry.bytes_out, entry.meters) == (5, 2, {"requests": 1})


async def test_a_reply_that_was_cut_off_is_recorded_and_not_charged(rig: Rig, upstream: CruelUpstream) -> None:
    """The client has nothing it can use, so it owes nothing."""

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")
        wire.close()

    upstream.runs(script)
    client = await rig.client()
    client.ask()
    assert (await client.rest()).endswith(b"0123456789")
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.units, entry.meters) == (200, "upstream_failed", 0, {})


@pytest.mark.parametrize("options", [Options(plan="limits: [{name: trial, limit: 3, window: 1m, mode: shadow}]")])
async def test_what_a_limit_in_shadow_mode_would_have_refused_passes_and_is_marked(rig: Rig) -> None:
    """Kong/kong#6835, envoyproxy/ratelimit#218: the record says it, and the caller sees nothing of it."""
    replies = [await rig.call() for _ in range(2)]
    assert [(reply.status, b"trial" in b"".join(reply.all("ratelimit"))) for reply in replies] == [(200, False)] * 2
    assert [entry.meters for entry in await rig.ledger()] == [
        {"requests": 1},
        {"requests": 1, "_shadow.trial?": 1},
    ]
    now_us = rig.clock.wall_ns() // 1000
    report = await rig.app._store.usage("acme", since_us=now_us - 3_600_000_000, until_us=now_us + 60_000_000)
    shown = metered(report.meters)
    assert shown == {"meters": {"requests": 2}, "anomalies": {}, "shadow_refused": {"trial": 1}}
    counted = rig.app._admission.readings().shadow_refused
    assert counted == {("basic", "trial"): 1}


async def test_a_missing_database_is_not_replaced_in_silence(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.app.stop()
    for file in (tmp_path / "data").glob("sidecar.db*"):
        file.unlink()
    async with open_offline(rig.app.snapshot):
        assert "sidecar.db is missing" in caplog.text
    await rig.app.start()
