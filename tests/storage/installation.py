"""An installation to be moved, what it holds, and how it is moved."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sidecar.core.accounts import Account, Arrival, Notice
from sidecar.core.billing import Parity, Period, RowQuery, Window
from sidecar.core.credits import Book, Grant, Share
from sidecar.core.crossings import Crossing
from sidecar.core.ports import Position, UsageQuery
from sidecar.core.records import UsageRecord, encode_record
from sidecar.core.values import AccessState, ApiKey, Tenant
from sidecar.storage import PostgresStore, SqliteStore, move
from tests.storage.postgres.server import Database

MINUTE = 60_000_000
DAY = 1440 * MINUTE
FIRST = 20_000 * DAY
SPAN = {"since_us": FIRST, "until_us": FIRST + 5 * DAY}
GROUPS = [(), ("tenant",), ("minute",), ("hour", "route"), ("tenant", "day"), ("month",), ("status", "sandbox", "key")]
GROUPS += [("plan", "route", "hour"), ("tenant", "plan", "key", "route", "status", "sandbox")]
TENANTS = ["acme", 'beta, "Inc"', "nul\x00\x01", "grün", "policy-only"]
NODE = "node-1"
PERIOD = Period(FIRST // 10**6, FIRST // 10**6 + 3 * 86_400)
MINUTES = {"begin": FIRST // MINUTE, "end": FIRST // MINUTE + 3 * 1440}
EVENTS = {"tokens": "tokens", "slash\\ nul\x00": "slashes"}


class Cut(Exception):
    """What an interruption raises here."""


def record(draw: random.Random) -> UsageRecord:
    meters = {"requests": 1, "tokens": draw.randrange(9), "slash\\ nul\x00": 2, "cost?": 1}
    kept = draw.sample(sorted(meters), draw.randrange(len(meters) + 1))
    return UsageRecord(
        event_id=str(UUID(int=draw.getrandbits(128))),
        started_us=FIRST + draw.randrange(draw.choice([MINUTE, 3 * DAY])),
        tenant=draw.choice(TENANTS),
        key_id=draw.choice(["k1", "k2"]),
        plan=draw.choice(["pro", "free"]),
        sandbox=draw.random() < 0.2,
        route=draw.choice(["search", "chat"]),
        method="GET",
        status=draw.choice([0, 200, 204, 404, 503]),
        outcome=draw.choice(["ok", "indeterminate"]),
        units=draw.randrange(9),
        cost=draw.choice([0, 2**48]),
        bytes_in=draw.randrange(9),
        bytes_out=draw.randrange(9),
        total_us=draw.randrange(10**9),
        upstream_us=draw.randrange(9),
        first_byte_us=draw.randrange(9),
        meters={name: meters[name] for name in kept},
    )


async def fill(path: Path, seed: int, events: int = 150) -> None:
    """Some tenants and keys, calls of which old ones are forgotten, malformed records, a position in the journal."""
    draw = random.Random(seed)
    store = SqliteStore.open(path)
    try:
        for number, name in enumerate(TENANTS[:-1]):
            await store.add_tenant(Tenant(name, "pro", stripe_customer=draw.choice([None, "cus_1"])), actor="me")
            for count in range(3):
                scopes = draw.choice([None, (), ("read", "nul\x00")])
                expires_ns = draw.choice([None, 2**60])
                key = f"k{number}{count}" if number else f"k{count}"
                await store.add_key(
                    ApiKey(
                        key, name, f"key {count}", count == 2, bytes([number, count]) * 16, "p1", scopes,
                        1, expires_ns, None, None,
                    ),
                    actor="me",
                )  # fmt: skip
        await store.set_tenant("acme", plan="free", state=AccessState.GRACE, actor="me", at_ns=5)
        await store.end_key("k1", at_ns=2**50, revoked=True, actor="me")
        await with_accounts(store)
        batch = [encode_record(record(draw)) for _ in range(events)]
        await store.append([*batch, b'["d"]', b"{}"], Position(3, 77))
        await bill(store)
        await store.forget_events(before_us=FIRST + DAY, at_most=10**6)
        await store.forget_sums(minutes_before_us=FIRST + DAY + 90 * MINUTE, hours_before_us=0, at_most=10**6)
    finally:
        store.close()


async def with_accounts(store: SqliteStore) -> None:
    for number, name in enumerate(TENANTS):
        notices = [Notice(f"n{number}", "email", "access.grace", name, {"days": number, "plan": "grün"}, 1)]
        periods = (PERIOD,) * number
        account = Account(name, "cus_1", plan="pro" if number else None, until_ns=number or None, periods=periods)
        await store.save_account(account, actor="me", at_ns=1, notices=notices)
        await store.move_cursor(f"events of {number}", number)
        await store.claim(f"first key of {number}", name, at_ns=number)
        await store.receive(Arrival(f"evt_{number}", "invoice.paid", "in_1", '{"a": "\\u0000"}', number))
        grant = Grant(name, f"in_{number}", 10**6, "USD", number, expires_ns=number or None, note="nul\x00")
        await store.add_grant(grant, actor="me")
        await store.add_grant(replace(grant, source="in_x"), actor="me")
        share = Share("in_x", 0, 10**6 + number, 9, 2, number, number // 2, "USD")
        await store.settle_credits(Book(name, number, 7), {"in_x": number}, if_until=None, shares=[share])
        await store.cross(Crossing(name, "monthly", 0, 10**9, 80, 100, 80 + number, 9), ())
    await store.revoke_grant(TENANTS[0], "in_0", at_ns=9, actor="me")
    await store.finish("evt_1", at_ns=9, note="done")
    await store.postpone("evt_2", next_ns=9, note="later")
    await store.settle_notice("n1", "email", done=True, at_ns=9)


async def bill(store: SqliteStore) -> None:
    """Rows for each tenant's first hours, in several states; the rest is marked and not assigned."""
    begin = FIRST // MINUTE
    free = tuple((minute * MINUTE, minute * MINUTE + MINUTE // 2) for minute in range(begin, begin + 600, 30))
    for number, name in enumerate(TENANTS):
        window = Window(name, "cus_1", begin, begin + 600 + number, PERIOD, free=free)
        for row in await store.assign(window, EVENTS, at_ns=5):
            await store.attempt(row.id, at_ns=6)
            await store.settle(row.id, ("sent", "verified", "held")[row.id % 3], at_ns=7, note="nul\x00")
        parity = Parity(name, "cus_1", "tokens", PERIOD, "in_1", 1, 2, 3, 4, 5, number or None, number > 1, 9)
        await store.save_parity(parity)
    await store.forget_billed(before=begin - 5, at_most=100)


async def answers(store: SqliteStore | PostgresStore) -> dict[str, Any]:
    """What the ports say, about everything."""
    tenants = await store.tenants(limit=1000)
    keys = {name: await store.keys(name, limit=1000) for name in TENANTS}
    found = await store.events(tenant=None, after=None, limit=100_000, **SPAN)
    said: dict[str, Any] = {
        "tenants": sorted(tenants, key=lambda tenant: tenant.name),
        "keys": keys,
        "ids": [await store.key(key.id) for held in keys.values() for key in held],
        "version": await store.keys_version(),
        "events": sorted(found.events, key=lambda event: event.event_id),
        "usage": [await store.usage(name, **SPAN) for name in TENANTS],
        "place": (await store.position(), await store.rejected()),
        "meters": [
            await store.meter_total(name, meter, sandbox=sandbox, **SPAN)
            for name in TENANTS
            for meter in ("tokens", "slash\\ nul\x00")
            for sandbox in (False, True)
        ],
    }
    said |= {
        "books": await store.instance(),
        "grants": [await store.grants(name, limit=1000) for name in TENANTS],
        "credit": [(found[0], sorted(found[1], key=str)) for found in [await store.credit(name) for name in TENANTS]],
        "burns": [(await store.credit_history(name, begin=0, end=10**7)).shares for name in TENANTS],
        "accounts": sorted(await store.accounts(limit=1000), key=lambda account: account.tenant),
        "marks": sorted(await store.marks(before=10**9)),
        "rows": await store.rows(RowQuery()),
        "parities": sorted(await store.parities(), key=lambda parity: parity.tenant),
        "arrivals": await store.arrivals(at_ns=10**9, limit=1000),
        "notices": await store.due_notices(at_ns=10**9, limit=1000),
        "left": [await store.unassigned_minutes(name, meter, **MINUTES) for name in TENANTS for meter in EVENTS],
        "excused": [await store.excused(name, meter, **MINUTES) for name in TENANTS for meter in EVENTS],
        "assigned": [await store.assigned(name, meter, **MINUTES) for name in TENANTS for meter in EVENTS],
    }
    for by in GROUPS:
        for sandbox in (None, False):
            rows = await store.usage_rows(UsageQuery(by, *SPAN.values(), sandbox=sandbox, limit=100_000))
            said[f"{by} {sandbox}"] = sorted(rows, key=lambda row: str(row.group))
    return said


async def both(path: Path, database: Database) -> tuple[dict[str, Any], dict[str, Any]]:
    source = SqliteStore.open(path, readonly=True)
    target = await PostgresStore.open(database.url, journal=NODE)
    try:
        return await answers(source), await answers(target)
    finally:
        source.close()
        await target.close()


async def run_move(path: Path, database: Database, *, page: int = 5000) -> tuple[bool, list[str]]:
    lines: list[str] = []
    source = SqliteStore.open(path, moving=True)
    try:
        return await move(source, database.url, NODE, lines.append, page=page), lines
    finally:
        source.close()
