"""Every table that is worth moving, row by row, for taking an installation to another store."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import apsw


@dataclass(frozen=True, slots=True)
class Table:
    """Columns as in the migrations, in the order in which rows have them; ``key`` is the primary key."""

    key: tuple[str, ...]
    columns: tuple[str, ...]


def _table(columns: str, key: str) -> Table:
    return Table(tuple(key.split()), tuple(columns.split()))


def _sums(period: str, extra: str, values: str) -> Table:
    key = f"tenant {period} plan key_id route status_class sandbox {extra}"
    return _table(f"{key} {values}", key)


_CALLS = "requests units cost bytes_in bytes_out total_us upstream_us indeterminate"
TABLES: Mapping[str, Table] = {
    "tenants": _table("name plan state stripe_customer created_ns terms", "name"),
    "api_keys": _table(
        "id tenant name sandbox digest pepper scopes created_ns expires_ns revoked_ns last_used_ns",
        "id",
    ),
    "keys_version": _table("one value", "one"),
    "audit_log": _table("seq at_ns actor action subject detail", "seq"),
    "entries": _table(
        "seq event_id started_us tenant key_id plan sandbox route method status outcome"
        " units cost bytes_in bytes_out total_us upstream_us first_byte_us meters",
        "seq",
    ),
    "calls_by_minute": _sums("minute", "", _CALLS),
    "calls_by_hour": _sums("hour", "", _CALLS),
    "meters_by_minute": _sums("minute", "meter", "value"),
    "meters_by_hour": _sums("hour", "meter", "value"),
    "latency_by_minute": _sums("minute", "bucket", "calls"),
    "latency_by_hour": _sums("hour", "bucket", "calls"),
    "calls_by_day": _sums("day", "", _CALLS),
    "meters_by_day": _sums("day", "meter", "value"),
    "latency_by_day": _sums("day", "bucket", "calls"),
    "books": _table("one name floor", "one"),
    "accounts": _table(
        "tenant customer subscription status plan access since_ns until_ns trial_until_s ends_s periods read_ns",
        "tenant",
    ),
    "marks": _table("tenant minute", "tenant minute"),
    "assigned_minutes": _table("tenant meter minute value", "tenant meter minute"),
    "excused_minutes": _table("tenant meter minute value", "tenant meter minute"),
    "outbox": _table(
        "id tenant customer meter event_name begin_minute end_minute period_start_s period_end_s minute version value"
        " identifier state created_ns first_attempt_ns attempts round next_ns http request_id note settled_ns"
        " verified_ns",
        "id",
    ),
    "parities": _table(
        "tenant meter period_start_s period_end_s invoice customer ledger assigned accepted verified payee billed"
        " final at_ns",
        "tenant meter period_start_s period_end_s invoice",
    ),
    "arrivals": _table("seq id type object_id payload at_ns attempts next_ns finished_ns note", "seq"),
    "cursors": _table("what at_s", "what"),
    "claims": _table("what tenant at_ns", "what"),
    "notices": _table("seq id channel kind tenant facts at_ns attempts next_ns done_ns note", "seq"),
    "credit_grants": _table(
        "tenant source amount currency granted_ns priority expires_ns revoked_ns note burned bonus",
        "tenant source",
    ),
    "credit_burns": _table(
        "tenant source begin_minute end_minute due above amount earned currency", "tenant source begin_minute"
    ),
    "credit_books": _table("tenant until_minute uncovered", "tenant"),
    "crossings": _table(
        "tenant name start_s threshold quantity end_s used at_ns", "tenant name start_s threshold quantity"
    ),
    "rejected_records": _table("seq segment byte reason payload", "seq"),
}


def copy_sql(name: str, *, resumed: bool) -> str:
    """Rows in the order of the key; ``resumed``: those after the bound values of the key."""
    table = TABLES[name]
    key = ", ".join(table.key)
    where = f"WHERE ({key}) > ({', '.join('?' * len(table.key))})" if resumed else ""
    return f"SELECT {', '.join(table.columns)} FROM {name} {where} ORDER BY {key} LIMIT ?"  # noqa: S608 - fixed names


def copy_rows(connection: apsw.Connection, name: str, after: tuple[Any, ...], limit: int) -> list[tuple[Any, ...]]:
    return connection.execute(copy_sql(name, resumed=bool(after)), (*after, limit)).fetchall()
