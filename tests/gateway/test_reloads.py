"""A new configuration under a running lane: swapped whole, or not at all; what is under way goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.core.errors import ConfigError, Conflict
from tests.gateway.cruel import CruelUpstream, until
from tests.gateway.rig import Options, Rig, start_rig

Start = Callable[[Options], Awaitable[Rig]]


@pytest.fixture
async def start(tmp_path: Path, upstream: CruelUpstream) -> AsyncIterator[Start]:
    """Starts one rig with these options."""
    made: list[Rig] = []

    async def run(options: Options) -> Rig:
        made.append(await start_rig(tmp_path, upstream, options))
        return made[-1]

    yield run
    for rig in made:
        await rig.stop()


def edit(rig: Rig, old: str, new: str) -> Path:
    file = Path(rig.app.snapshot.settings.data).parent / "sidecar.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


async def test_counters_live_on_and_new_numbers_apply(start: Start) -> None:
    rig = await start(Options(plan="limits: [{name: day, limit: 6, window: 1d}]"))
    assert (await rig.call()).status == 200
    assert (await rig.call()).status == 200
    assert (await rig.call()).status == 429
    edit(rig, "limit: 6,", "limit: 9,")
    await rig.app.reloads.now()
    assert (await rig.call()).status == 200  # 6 of 9 were used, so one more call of 3 units
    assert (await rig.call()).status == 429


async def test_a_connection_stays_and_its_next_request_meets_the_new_rules(start: Start) -> None:
    rig = await start(Options())
    client = await rig.client()
    client.ask("POST /small HTTP/1.1", "Content-Length: 5", body=b"12345")
    assert (await client.message()).status == 200
    edit(rig, "max_body: 10B", "max_body: 2B")
    await rig.app.reloads.now()
    client.ask("POST /small HTTP/1.1", "Content-Length: 5", body=b"12345")
    assert (await client.message()).status == 413


async def test_a_call_under_way_ends_on_the_upstream_that_was_taken_away(start: Start) -> None:
    rig = await start(Options())
    pool = rig.pool
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Content-Length: 4", body=b"ab")
    await until(lambda: rig.pool.targets[0].outstanding == 1)
    edit(rig, "max_connections: 8", "max_connections: 9")
    await rig.app.reloads.now()
    assert rig.pool is not pool
    client.send(b"cd")
    assert (await client.message()).status == 200
    assert rig.upstream.requests[-1].body == b"abcd"
    rig.advance(1)
    assert pool.targets[0].outstanding == 0
    rig.advance(301)
    assert rig.app._pools._leaving == {}


async def test_an_upstream_that_stays_keeps_its_connections(start: Start) -> None:
    rig = await start(Options())
    assert (await rig.call()).status == 200
    pool = rig.pool
    edit(rig, "units: 3", "units: 4")
    await rig.app.reloads.now()
    assert rig.pool is pool
    assert len(pool.targets[0].idle) == 1


async def test_trusted_proxies_are_those_of_the_new_rules(start: Start) -> None:
    """Also on a connection that was open before: a proxy that is no longer trusted must not go on naming clients."""
    rig = await start(Options(trusted="127.0.0.0/8"))
    client = await rig.client()
    client.ask("GET / HTTP/1.1", "X-Forwarded-For: 192.0.2.7")
    assert (await client.message()).status == 200
    assert rig.upstream.requests[-1].all("x-forwarded-for") == [b"192.0.2.7, 127.0.0.1"]
    edit(rig, "trusted_proxies: [127.0.0.0/8]", "trusted_proxies: []")
    await rig.app.reloads.now()
    client.ask("GET / HTTP/1.1", "X-Forwarded-For: 192.0.2.7")
    assert (await client.message()).status == 200
    assert rig.upstream.requests[-1].all("x-forwarded-for") == [b"127.0.0.1"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("units: 3}", "units: three}", "units"),
        ("upstream: api, units", "upstream: nobody, units", "nobody"),
        ("drain: 0s", "drain: 0s\nkeep_events: 7d", "only a new process"),
        ("data: data", "data: elsewhere", "only a new process"),
        ("api_key: {}", "upstream_jwt: {}", "only a new process"),
    ],
)
async def test_a_bad_one_changes_nothing(start: Start, old: str, new: str, told: str) -> None:
    rig = await start(Options())
    before = rig.app.snapshot
    file = edit(rig, old, new)
    with pytest.raises(ConfigError, match=told) as raised:
        await rig.app.reloads.now()
    assert any(fault.line for fault in raised.value.faults)
    assert rig.app.snapshot is before
    assert rig.lane.rules.snapshot is before
    assert rig.app.reloads.reading().refused_last
    assert any("last good one" in warning for warning in rig.app._warnings())
    assert (await rig.call()).status == 200
    file.write_text(file.read_text().replace(new, old))
    await rig.app.reloads.now()
    assert not rig.app.reloads.reading().refused_last
    assert rig.app._warnings() == []


async def test_another_way_to_carry_keys_applies_at_once(start: Start) -> None:
    rig = await start(Options())
    assert (await rig.call()).status == 200
    edit(rig, "api_key: {}", "api_key: {header: X-Other}")
    await rig.app.reloads.now()
    assert (await rig.call()).status == 401
    assert (await rig.call("GET / HTTP/1.1", f"X-Other: {rig.key}")).status == 200


async def test_a_request_that_repeats_the_one_before_is_read_by_the_new_rules(start: Start) -> None:
    rig = await start(Options())
    client = await rig.client()
    ask = ("GET / HTTP/1.1", "X-Other: nobody")
    for _ in range(3):  # read, remembered, the same again
        client.ask(*ask)
        assert (await client.message()).status == 200
    edit(rig, "api_key: {}", "api_key: {header: X-Other}")
    await rig.app.reloads.now()
    client.ask(*ask)
    assert (await client.message()).status == 401


async def test_a_tenant_that_is_suspended_in_the_file_stops_at_once(start: Start) -> None:
    rig = await start(Options())
    assert (await rig.call()).status == 200
    edit(rig, "acme: {plan: basic}", "acme: {plan: basic, state: suspended}")
    await rig.app.reloads.now()
    assert (await rig.call()).status == 402


async def test_more_meters_have_their_room_in_the_journal(start: Start) -> None:
    rig = await start(Options())
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Content-Length: 4", body=b"ab")
    await until(lambda: rig.pool.targets[0].outstanding == 1)
    owed = rig.journal._owed
    edit(rig, "  requests: {count: requests}", "  requests: {count: requests}\n  out: {count: bytes_out}")
    edit(rig, "overage: allow}]", "overage: allow}, {name: out, meter: out, limit: 10, period: day, overage: allow}]")
    await rig.app.reloads.now()
    assert rig.journal._owed == owed + 2 * len("out") + 32
    client.send(b"cd")
    assert (await client.message()).status == 200
    assert (await rig.call()).status == 200
    entries = await rig.ledger()
    assert [entry.meters for entry in entries] == [{"requests": 1}, {"requests": 1, "out": 2}]


async def test_files_are_taken_once_they_rest(start: Start) -> None:
    rig = await start(Options())
    configuration = rig.app.reloads._configuration
    assert configuration is not None
    assert not configuration.settled()
    edit(rig, "units: 3", "units: 44")
    assert not configuration.settled()  # it may still be being written
    assert configuration.settled()
    await rig.app.reloads.now()
    assert not configuration.settled()


async def test_before_the_start_there_is_nothing_to_swap(start: Start) -> None:
    rig = await start(Options())
    rig.app._started = False
    with pytest.raises(Conflict, match="starting"):
        await rig.app.reloads.now()
    rig.app._started = True


async def test_many_at_once_take_turns(start: Start) -> None:
    rig = await start(Options())
    await asyncio.gather(*(rig.app.reloads.now() for _ in range(5)))
    assert rig.app.reloads.reading().taken == 5
    assert (await rig.call()).status == 200
