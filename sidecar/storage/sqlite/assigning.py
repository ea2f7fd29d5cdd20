"""Usage becomes rows of the outbox: plain functions of a connection."""

import base64
import json
import secrets
from collections.abc import Mapping

import apsw

from sidecar.core.billing import OutboxRow, Period, Window
from sidecar.core.errors import Conflict
from sidecar.storage.billing_values import WAITING
from sidecar.storage.sqlite import outbox, tenants
from sidecar.storage.sqlite.connection import transaction
from sidecar.storage.stamps import MINUTE_US, REACHES_US, free_minutes, half_hour, identifier, stretches

_USED = (
    "SELECT minute, sum(value) AS value FROM meters_by_minute"
    " WHERE tenant = :tenant AND meter = :meter AND minute >= :begin AND minute < :end AND sandbox = 0 GROUP BY minute"
)
_BEYOND = f"""
    SELECT used.minute, used.value - coalesce(assigned.value, 0) - coalesce(excused.value, 0) AS beyond
    FROM ({_USED}) AS used
    LEFT JOIN assigned_minutes AS assigned
    ON assigned.tenant = :tenant AND assigned.meter = :meter AND assigned.minute = used.minute
    LEFT JOIN excused_minutes AS excused
    ON excused.tenant = :tenant AND excused.meter = :meter AND excused.minute = used.minute
    WHERE beyond > 0
"""  # noqa: S608 - a fixed text
# Of one minute: its sum, what was assigned of it, what its single entries add up to, and those that ended in :spans.
_PARTS = f"""
    SELECT
        (SELECT coalesce(sum(value), 0) FROM ({_USED})),
        (SELECT coalesce(sum(value), 0) FROM assigned_minutes
            WHERE tenant = :tenant AND meter = :meter AND minute = :begin),
        coalesce(sum(meter.value), 0),
        coalesce(sum(meter.value) FILTER (WHERE EXISTS (
            SELECT 1 FROM json_each(:spans) AS span
            WHERE started_us + total_us >= span.value ->> 0 AND started_us + total_us < span.value ->> 1
        )), 0)
    FROM entries, json_each(entries.meters) AS meter
    WHERE tenant = :tenant AND started_us >= :since_us AND started_us < :end * 60000000
        AND (started_us + total_us) / 60000000 = :begin AND sandbox = 0 AND meter.key = :meter
"""  # noqa: S608 - a fixed text
# Marks of the grouped batch: usage of live keys, tenants with an account, not before the floor.
MARK_BATCH = """
    INSERT INTO marks
    SELECT DISTINCT tenant, minute FROM temp.batch
    WHERE sandbox = 0 AND meters <> '{}' AND minute >= (SELECT floor FROM books)
    AND tenant IN (SELECT tenant FROM accounts)
    ON CONFLICT DO NOTHING
"""


def instance(connection: apsw.Connection) -> str:
    return str(connection.execute("SELECT name FROM books").get)


def name_books(connection: apsw.Connection) -> None:
    """Gives a new database its name."""
    name = base64.b32encode(secrets.token_bytes(5)).decode().lower()
    connection.execute("INSERT INTO books VALUES (1, ?, 0) ON CONFLICT DO NOTHING", (name,))


def marks(connection: apsw.Connection, before: int, after: tuple[str, int], limit: int) -> list[tuple[str, int]]:
    sql = "SELECT tenant, minute FROM marks WHERE (tenant, minute) > (?, ?) AND minute < ? ORDER BY 1, 2 LIMIT ?"
    return [(tenant, minute) for tenant, minute in connection.execute(sql, (*after, before, limit))]


def mark(connection: apsw.Connection, tenant: str, begin: int, end: int) -> int:
    sql = (
        "INSERT INTO marks SELECT DISTINCT tenant, minute FROM meters_by_minute WHERE tenant = ? AND sandbox = 0"
        " AND minute >= max(?, (SELECT floor FROM books)) AND minute < ? ON CONFLICT DO NOTHING"
    )
    connection.execute(sql, (tenant, begin, end))
    return int(connection.changes())


def unmark(connection: apsw.Connection, tenant: str, begin: int, end: int) -> None:
    connection.execute("DELETE FROM marks WHERE tenant = ? AND minute >= ? AND minute < ?", (tenant, begin, end))


def assign(
    connection: apsw.Connection, window: Window, events: Mapping[str, str], at_ns: int, state: str, note: str
) -> list[OutboxRow]:
    with transaction(connection):
        name, floor = connection.execute("SELECT name, floor FROM books").get
        if window.begin < floor:
            raise Conflict(f"usage of {window.tenant} before minute {floor} was billed and forgotten")
        made = []
        for meter, event_name in events.items():
            for free, spans in free_minutes(window).items():
                _excuse(connection, window.tenant, meter, free, spans)
            value = _take(connection, window, meter)
            if value:
                version, minute = _place(connection, window, event_name, floor)
                names = identifier(name, event_name, window.customer, minute, version)
                row_id = outbox.insert(
                    connection, window, meter, event_name, minute, version, value, names, state, at_ns, note
                )
                made.append(outbox.row(connection, row_id))
        unmark(connection, window.tenant, window.begin, window.end)
    return made


def carry(connection: apsw.Connection, row_id: int, period: Period, at_ns: int, note: str) -> OutboxRow:
    with transaction(connection):
        name, floor = connection.execute("SELECT name, floor FROM books").get
        old = outbox.row(connection, row_id)
        if old.state not in WAITING or old.hourly:
            raise Conflict(f"row {row_id} of the outbox is {old.state}: only one that waits for a person is carried")
        window = Window(old.tenant, old.customer, old.begin, old.end, period)
        _, minute = _place(connection, window, old.event_name, floor)
        names = identifier(name, old.event_name, old.customer, minute, 0)
        new_id = outbox.insert(
            connection, window, old.meter, old.event_name, minute, 0, old.value, names, "pending", at_ns, note
        )
        outbox.replace(connection, row_id, f"carried into row {new_id}", at_ns)
        tenants.audit(connection, at_ns, "billing", "outbox.carried", old.tenant, row=str(row_id), note=note)
        return outbox.row(connection, new_id)


def _excuse(connection: apsw.Connection, tenant: str, meter: str, minute: int, spans: list[tuple[int, int]]) -> None:
    bound: dict[str, str | int] = {"tenant": tenant, "meter": meter, "begin": minute, "end": minute + 1}
    bound["spans"] = json.dumps(spans)
    for reach_us in REACHES_US:
        bound["since_us"] = minute * MINUTE_US - reach_us
        used, taken, known, free = connection.execute(_PARTS, bound).get
        if known == used:
            break
    else:
        free = used
    value = min(free, used - taken)
    connection.execute(
        "DELETE FROM excused_minutes WHERE tenant = ? AND meter = ? AND minute = ?", (tenant, meter, minute)
    )
    if value > 0:
        connection.execute("INSERT INTO excused_minutes VALUES (?, ?, ?, ?)", (tenant, meter, minute, value))


def _take(connection: apsw.Connection, window: Window, meter: str) -> int:
    """The row's value; what it stands for counts as assigned."""
    bound = {"tenant": window.tenant, "meter": meter, "begin": window.begin, "end": window.end}
    beyond = [(int(minute), int(value)) for minute, value in connection.execute(_BEYOND, bound)]
    if not beyond:
        return 0
    connection.executemany(
        "INSERT INTO assigned_minutes VALUES (?, ?, ?, ?)"
        " ON CONFLICT (tenant, meter, minute) DO UPDATE SET value = value + excluded.value",
        [(window.tenant, meter, minute, value) for minute, value in beyond],
    )
    if window.hourly:
        return assigned(connection, window.tenant, meter, window.begin, window.end)
    return sum(value for _, value in beyond)


def _place(connection: apsw.Connection, window: Window, event_name: str, floor: int) -> tuple[int, int]:
    """(version, stamped minute)."""
    taken = "event_name = ? AND customer = ?"
    key = (event_name, window.customer)
    if window.hourly:
        minute = half_hour(window)
        sql = f"SELECT coalesce(max(version), 0) FROM outbox WHERE {taken} AND minute = ?"  # noqa: S608 - a fixed text
        version = int(connection.execute(sql, (*key, minute)).get) + 1
        outbox.supersede(connection, event_name, window.customer, minute)
        return version, minute
    for begin, end in stretches(window, floor):
        sql = f"SELECT minute FROM outbox WHERE {taken} AND minute >= ? AND minute < ? ORDER BY minute"  # noqa: S608
        free = begin
        for (minute,) in connection.execute(sql, (*key, begin, end)):
            if minute > free:
                break
            free = minute + 1
        if free < end:
            return 0, free
    raise Conflict(f"the period of {window.customer} has no minute left to stamp an event of {event_name} in")


def assigned(connection: apsw.Connection, tenant: str, meter: str, begin: int, end: int) -> int:
    sql = (
        "SELECT coalesce(sum(value), 0) FROM assigned_minutes"
        " WHERE tenant = ? AND meter = ? AND minute >= ? AND minute < ?"
    )
    return int(connection.execute(sql, (tenant, meter, begin, end)).get)


def excused(connection: apsw.Connection, tenant: str, meter: str, begin: int, end: int) -> int:
    sql = (
        "SELECT coalesce(sum(value), 0) FROM excused_minutes"
        " WHERE tenant = ? AND meter = ? AND minute >= ? AND minute < ?"
    )
    return int(connection.execute(sql, (tenant, meter, begin, end)).get)


def unassigned_minutes(
    connection: apsw.Connection, tenant: str, meter: str, begin: int, end: int
) -> dict[int, tuple[int, int]]:
    sql = f"""
        SELECT minute, sum(used), sum(taken) FROM (
            SELECT minute, value AS used, 0 AS taken FROM ({_USED})
            UNION ALL
            SELECT minute, -value, 0 FROM excused_minutes
            WHERE tenant = :tenant AND meter = :meter AND minute >= :begin AND minute < :end
            UNION ALL
            SELECT minute, 0, value FROM assigned_minutes
            WHERE tenant = :tenant AND meter = :meter AND minute >= :begin AND minute < :end
        ) GROUP BY minute HAVING sum(used) <> sum(taken)
    """  # noqa: S608 - a fixed text
    bound = {"tenant": tenant, "meter": meter, "begin": begin, "end": end}
    return {minute: (used, taken) for minute, used, taken in connection.execute(sql, bound)}
