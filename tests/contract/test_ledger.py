"""What every Ledger must do: each event once, sums that are the sum, a position that moves with the rows."""

import dataclasses
import itertools
import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.latency import MAX_US, bucket_index
from sidecar.core.ports import Ledger, Position, UsageTotals
from sidecar.core.records import UsageRecord, encode_record
from tests.records import CALL, MINUTE, event_id_of

_numbers = itertools.count(1)
GOOD = dataclasses.replace(CALL, meters={"requests": 1, "tokens": 0})


def event_id() -> str:
    return event_id_of(next(_numbers))


def totals(records: list[UsageRecord]) -> UsageTotals:
    names = ("units", "cost", "bytes_in", "bytes_out", "total_us", "upstream_us")
    return UsageTotals(len(records), *(sum(getattr(record, name) for record in records) for name in names))


async def report(ledger: Ledger, tenant: str = "acme", since: int = 0, until: int = 10**6) -> object:
    return await ledger.usage(tenant, since_us=since * MINUTE, until_us=until * MINUTE)


small = st.integers(0, 2**40)
usage_records = st.builds(
    UsageRecord,
    event_id=st.integers(1, 12).map(lambda n: f"{n:012x}"),
    started_us=st.one_of(st.integers(0, 5 * MINUTE), st.integers(0, 300 * MINUTE)),
    tenant=st.sampled_from(["acme", "acme-1"]),
    key_id=st.sampled_from(["k1", "k2"]),
    plan=st.sampled_from(["pro", "free"]),
    sandbox=st.booleans(),
    route=st.sampled_from(["search", "chat", 'a"b\\c é']),
    method=st.just("GET"),
    status=st.sampled_from([0, 200, 204, 404, 500]),
    outcome=st.sampled_from(["ok", "client_gone", "indeterminate"]),
    units=small,
    cost=small,
    bytes_in=small,
    bytes_out=small,
    total_us=small,
    upstream_us=small,
    first_byte_us=small,
    meters=st.dictionaries(st.sampled_from(["requests", "tokens", "é"]), small),
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(usage_records, max_size=8), max_size=5),
    window=st.one_of(
        st.tuples(st.integers(0, 6), st.integers(0, 6)), st.tuples(st.integers(0, 300), st.integers(0, 300))
    ),
)
async def test_sums_are_the_sums_of_the_first_of_each_event(
    ledger: Ledger, batches: list[list[UsageRecord]], window: tuple[int, int]
) -> None:
    """Batches overlap and repeat, as after a crash between the append and its acknowledgement (field-bugs 22).

    A call's tenant and start are made at admission together with its id, so they are the same in every record of it.
    """
    run = f"{next(_numbers):x}"
    begun: dict[str, tuple[str, int]] = {}
    known: dict[str, UsageRecord] = {}
    for number, batch in enumerate(batches):
        placed = [
            dataclasses.replace(
                record,
                event_id=f"{int(run, 16):08x}-0000-7000-8000-{record.event_id}",
                tenant=f"{tenant}/{run}",
                started_us=started_us,
            )
            for record in batch
            for tenant, started_us in [begun.setdefault(record.event_id, (record.tenant, record.started_us))]
        ]
        fresh = {record.event_id: record for record in reversed(placed) if record.event_id not in known}
        new = await ledger.append([encode_record(record) for record in placed], Position(1, 16 + number))
        assert new == len(fresh)
        known |= fresh
    since, until = window
    for tenant in (f"acme/{run}", f"acme-1/{run}"):
        mine = [r for r in known.values() if r.tenant == tenant and since * MINUTE <= r.ended_us < until * MINUTE]
        paid = [record for record in mine if not record.sandbox]
        found = await report(ledger, tenant, since, until)
        assert found.totals == totals(paid)
        assert found.sandbox == totals([record for record in mine if record.sandbox])
        assert found.routes == {
            route: totals([record for record in paid if record.route == route]) for route in {r.route for r in paid}
        }
        by_status: dict[str, list[UsageRecord]] = {}
        for record in paid:
            by_status.setdefault(f"{record.status // 100}xx" if record.status else "none", []).append(record)
        assert found.statuses == {status: totals(records) for status, records in by_status.items()}
        assert found.indeterminate == sum(record.outcome == "indeterminate" for record in paid)
        assert found.latency == Counter(
            bucket_index(min(record.total_us, MAX_US)) for record in paid if record.outcome != "indeterminate"
        )
        meters: Counter[str] = Counter()
        for record in paid:
            meters.update(record.meters)
        assert found.meters == {name: meters[name] for record in paid for name in record.meters}
        for sandbox in (True, False):
            asked = {"since_us": since * MINUTE, "until_us": until * MINUTE, "sandbox": sandbox}
            wanted = sum(record.meters.get("tokens", 0) for record in mine if record.sandbox is sandbox)
            assert await ledger.meter_total(tenant, "tokens", **asked) == wanted


async def test_a_new_ledger_is_at_the_start_and_empty(ledger: Ledger) -> None:
    assert await ledger.position() == Position(0, 0)
    assert await ledger.rejected() == 0
    found = await report(ledger)
    assert (found.totals, found.routes, found.statuses, found.meters) == (UsageTotals(), {}, {}, {})
    assert found.latency == {}


async def test_the_position_moves_with_the_batch_and_with_an_empty_one(ledger: Ledger) -> None:
    await ledger.append([encode_record(GOOD)], Position(3, 400))
    assert await ledger.position() == Position(3, 400)
    assert await ledger.append([], Position(4, 16)) == 0
    assert await ledger.position() == Position(4, 16)


async def test_an_explicit_zero_stays_and_what_is_missing_is_missing(ledger: Ledger) -> None:
    """field-bugs 20: apache/apisix#13662, BerriAI/litellm#37992."""
    await ledger.append([encode_record(GOOD)], Position(1, 99))
    assert (await report(ledger)).meters == {"requests": 1, "tokens": 0}


def changed(position: int, value: object) -> bytes:
    row = json.loads(encode_record(GOOD))
    row[position] = value
    return json.dumps(row).encode()


MALFORMED = {
    "no JSON": b"not a record",
    "cut JSON": encode_record(GOOD)[:-9],
    "breaks out of the batch": b"],[",
    "a number": b"7",
    "a string": b'"d"',
    "an object": b'{"kind":"d"}',
    "an older, shorter record": json.dumps(json.loads(encode_record(GOOD))[:-1]).encode(),
    "a longer record": json.dumps([*json.loads(encode_record(GOOD)), 1]).encode(),
    "an intent": b'["i","0193a5f0-0000-7000-8000-000000000001",1,"a","k","p",0,"r","GET"]',
    "no event id": changed(1, "what"),
    "null tenant": changed(3, None),
    "negative units": changed(11, -1),
    "units beyond 64 bits": changed(11, 2**64),
    "cost at 64 bits": changed(12, 2**63),
    "cost beyond reason": changed(12, 2**48 + 1),
    "fractional cost": changed(12, 1.5),
    "cost as words": changed(12, "many"),
    "bytes as a list": changed(13, []),
    "time before the epoch": changed(2, -1),
    "meters as a list": changed(18, [1]),
    "a meter as text": changed(18, {"requests": "1"}),
    "a fractional meter": changed(18, {"requests": 0.5}),
    "a negative meter": changed(18, {"requests": -1}),
    "a meter beyond 64 bits": changed(18, {"requests": 2**70}),
    "a null meter": changed(18, {"requests": None}),
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_record_is_set_aside_and_holds_nothing_up(ledger: Ledger, payload: bytes) -> None:
    before = [dataclasses.replace(GOOD, event_id=event_id()) for _ in range(5)]
    after = [dataclasses.replace(GOOD, event_id=event_id()) for _ in range(6)]
    batch = [*map(encode_record, before), payload, *map(encode_record, after)]
    assert await ledger.append(batch, Position(1, 500)) == 11
    assert await ledger.position() == Position(1, 500)
    assert await ledger.rejected() == 1
    found = await report(ledger)
    assert found.totals == totals(before + after)
    assert found.meters == {"requests": 11, "tokens": 0}


async def test_sums_that_would_pass_64_bits_refuse_the_record_and_keep_the_sum(ledger: Ledger) -> None:
    """32,767 calls of the largest cost in an hour add up; a batch that is larger still loses what does not fit."""
    most = [dataclasses.replace(GOOD, event_id=event_id(), cost=2**48) for _ in range(32_770)]
    new = await ledger.append([encode_record(record) for record in most], Position(1, 500))
    assert new == 32_767
    assert await ledger.rejected() == 3
    assert (await report(ledger)).totals.cost == 32_767 * 2**48


async def test_forgotten_events_stay_in_the_sums_and_go_in_bounded_batches(ledger: Ledger) -> None:
    """field-bugs 29: BerriAI/litellm#2171, #20720, #16582, #31866."""
    for number in range(25):
        record = dataclasses.replace(GOOD, event_id=event_id(), started_us=number * MINUTE)
        await ledger.append([encode_record(record)], Position(1, 500 + number))
    before = await report(ledger)
    gone = [await ledger.forget_events(before_us=20 * MINUTE, at_most=8) for _ in range(4)]
    assert gone == [8, 8, 4, 0]
    assert await report(ledger) == before
    assert await ledger.append([encode_record(record)], Position(2, 16)) == 0, "younger events are still known"


async def test_one_tenant_is_never_in_anothers_sums(ledger: Ledger) -> None:
    """Keys of sums are injective: no separator joins tenant, key and route."""
    names = [("a", "b/c"), ("a/b", "c"), ("a", "b-c"), ("a-b", "c"), ("A", "b"), ("a ", "b"), ("a%", "b")]
    for tenant, key_id in names:
        record = dataclasses.replace(GOOD, event_id=event_id(), tenant=tenant, key_id=key_id)
        await ledger.append([encode_record(record)], Position(1, 16))
    counted = {tenant: (await report(ledger, tenant)).totals.requests for tenant, _ in names}
    assert counted == {"a": 2, "a/b": 1, "a-b": 1, "A": 1, "a ": 1, "a%": 1}
