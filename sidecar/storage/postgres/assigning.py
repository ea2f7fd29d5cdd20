"""Usage becomes rows of the outbox: plain functions of a connection in a transaction, which several nodes may call.

Two of them never take the same usage: who assigns holds a lock of the tenant and one of the customer, whose stamps are
exclusive, and asks everything after it has them. Batches are added to the ledger meanwhile. What one of them adds is
either seen here or marked anew: the marks go first, which waits for each batch that has locked one of them
(``mark_batch.sql``), and the ledger is read after that.
"""

from collections.abc import Mapping
from importlib.resources import files

from sidecar.core.billing import OutboxRow, Period, Window
from sidecar.core.errors import Conflict
from sidecar.storage.billing_values import WAITING
from sidecar.storage.postgres import outbox, tenants
from sidecar.storage.postgres.connection import Connection
from sidecar.storage.postgres.texts import shown, stored
from sidecar.storage.stamps import MINUTE_US, REACHES_US, free_minutes, half_hour, identifier, stretches

_folder = files(__package__) / "queries"
_TAKE = (_folder / "assign_minutes.sql").read_text("utf-8")
_PARTS = (_folder / "minute_parts.sql").read_text("utf-8")
_FREE = (_folder / "free_stamp.sql").read_text("utf-8")
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))"
# FOR SHARE: the floor stays where it is until the rows are there (forget_billed changes the row).
_BOOKS = "SELECT name, floor FROM sidecar.books FOR SHARE"
_MARKS = """
    SELECT tenant, minute FROM sidecar.marks
    WHERE (tenant, minute) > ($1, $2) AND minute < $3 AND minute >= (SELECT floor FROM sidecar.books)
    ORDER BY tenant, minute LIMIT $4
"""
# Batches that looked for accounts before the tenant had one are waited for, so that their usage is seen here; the
# others wait, and see the account. Without this lock a batch could be neither marked by itself nor from here.
_HOLD_BATCHES = "LOCK TABLE sidecar.marks IN SHARE ROW EXCLUSIVE MODE"
_MARK = """
    INSERT INTO sidecar.marks
    SELECT DISTINCT tenant, minute FROM sidecar.meters_by_minute
    WHERE tenant = $1 AND sandbox = 0 AND minute >= greatest($2, (SELECT floor FROM sidecar.books)) AND minute < $3
    ON CONFLICT DO NOTHING
"""
_UNMARK = """
    WITH locked AS MATERIALIZED (
        SELECT tenant, minute FROM sidecar.marks WHERE tenant = $1 AND minute >= $2 AND minute < $3
        ORDER BY minute FOR UPDATE
    )
    DELETE FROM sidecar.marks USING locked WHERE marks.tenant = locked.tenant AND marks.minute = locked.minute
"""
_NEWEST = """
    SELECT coalesce(max(version), 0) FROM sidecar.outbox WHERE event_name = $1 AND customer = $2 AND minute = $3
"""
_ASSIGNED = """
    SELECT coalesce(sum(value), 0)::bigint FROM sidecar.assigned_minutes
    WHERE tenant = $1 AND meter = $2 AND minute >= $3 AND minute < $4
"""
_EXCUSED = """
    SELECT coalesce(sum(value), 0)::bigint FROM sidecar.excused_minutes
    WHERE tenant = $1 AND meter = $2 AND minute >= $3 AND minute < $4
"""
_EXCUSE_NOT = "DELETE FROM sidecar.excused_minutes WHERE tenant = $1 AND meter = $2 AND minute = $3"
_UNASSIGNED = """
    SELECT minute, sum(used)::bigint, sum(taken)::bigint FROM (
        SELECT minute, value AS used, 0 AS taken FROM sidecar.meters_by_minute
        WHERE tenant = $1 AND meter = $2 AND minute >= $3 AND minute < $4 AND sandbox = 0
        UNION ALL
        SELECT minute, -value, 0 FROM sidecar.excused_minutes
        WHERE tenant = $1 AND meter = $2 AND minute >= $3 AND minute < $4
        UNION ALL
        SELECT minute, 0, value FROM sidecar.assigned_minutes
        WHERE tenant = $1 AND meter = $2 AND minute >= $3 AND minute < $4
    ) AS both_sides GROUP BY minute HAVING sum(used) <> sum(taken)
"""


async def instance(connection: Connection) -> str:
    return str(await connection.fetchval("SELECT name FROM sidecar.books"))


async def marks(connection: Connection, before: int, after: tuple[str, int], limit: int) -> list[tuple[str, int]]:
    rows = await connection.fetch(_MARKS, stored(after[0]), after[1], before, limit)
    return [(shown(tenant), minute) for tenant, minute in rows]


async def mark(connection: Connection, tenant: str, begin: int, end: int) -> int:
    await connection.execute(_HOLD_BATCHES)
    status = await connection.execute(_MARK, stored(tenant), begin, end)
    return int(status.rpartition(" ")[2])


async def unmark(connection: Connection, tenant: str, begin: int, end: int) -> None:
    await connection.execute(_UNMARK, stored(tenant), begin, end)


async def assign(
    connection: Connection, window: Window, events: Mapping[str, str], at_ns: int, state: str, note: str
) -> list[OutboxRow]:
    name, floor = await _alone(connection, window.tenant, window.customer)
    if window.begin < floor:
        raise Conflict(f"usage of {window.tenant} before minute {floor} was billed and forgotten")
    await unmark(connection, window.tenant, window.begin, window.end)
    made = []
    for meter, event_name in events.items():
        for free, spans in free_minutes(window).items():
            await _excuse(connection, window.tenant, meter, free, spans)
        value = await _take(connection, window, meter)
        if value:
            version, minute = await _place(connection, window, event_name, floor)
            names = identifier(name, event_name, window.customer, minute, version)
            place = (event_name, minute, version, value, names)
            made.append(await outbox.insert(connection, window, meter, *place, state, at_ns, note))
    return made


async def carry(connection: Connection, row_id: int, period: Period, at_ns: int, note: str) -> OutboxRow:
    found = await outbox.row(connection, row_id)
    name, floor = await _alone(connection, found.tenant, found.customer)  # then the row: so does an hour's new total
    found = await outbox.row(connection, row_id, locked=True)
    if found.state not in WAITING or found.hourly:
        raise Conflict(f"row {row_id} of the outbox is {found.state}: only one that waits for a person is carried")
    window = Window(found.tenant, found.customer, found.begin, found.end, period)
    _, minute = await _place(connection, window, found.event_name, floor)
    names = identifier(name, found.event_name, found.customer, minute, 0)
    place = (found.event_name, minute, 0, found.value, names)
    made = await outbox.insert(connection, window, found.meter, *place, "pending", at_ns, note)
    await outbox.replace(connection, row_id, f"carried into row {made.id}", at_ns)
    await tenants.audit(connection, at_ns, "billing", "outbox.carried", found.tenant, row=str(row_id), note=note)
    return made


async def _alone(connection: Connection, tenant: str, customer: str) -> tuple[str, int]:
    """Waits for others who assign usage of the tenant or stamps of the customer. The books' name and floor."""
    for lock in (f"sidecar.assign.tenant/{tenant}", f"sidecar.assign.customer/{customer}"):
        await connection.execute(_LOCK, stored(lock))
    name, floor = await connection.fetchrow(_BOOKS)
    return str(name), int(floor)


async def _excuse(connection: Connection, tenant: str, meter: str, minute: int, spans: list[tuple[int, int]]) -> None:
    key = stored(tenant), stored(meter), minute
    since, until = [list(edges) for edges in zip(*spans, strict=True)]
    for reach_us in REACHES_US:
        row = await connection.fetchrow(_PARTS, *key, minute * MINUTE_US - reach_us, since, until)
        used, taken, known, free = map(int, row)
        if known == used:
            break
    else:
        free = used
    value = min(free, used - taken)
    await connection.execute(_EXCUSE_NOT, *key)
    if value > 0:
        await connection.execute("INSERT INTO sidecar.excused_minutes VALUES ($1, $2, $3, $4)", *key, value)


async def _take(connection: Connection, window: Window, meter: str) -> int:
    """The row's value; what it stands for counts as assigned."""
    beyond = int(await connection.fetchval(_TAKE, stored(window.tenant), stored(meter), window.begin, window.end))
    if beyond and window.hourly:
        return await assigned(connection, window.tenant, meter, window.begin, window.end)
    return beyond


async def _place(connection: Connection, window: Window, event_name: str, floor: int) -> tuple[int, int]:
    """(version, stamped minute)."""
    key = stored(event_name), stored(window.customer)
    if window.hourly:
        minute = half_hour(window)
        version = int(await connection.fetchval(_NEWEST, *key, minute)) + 1
        await outbox.supersede(connection, event_name, window.customer, minute)
        return version, minute
    for begin, end in stretches(window, floor):
        free = int(await connection.fetchval(_FREE, *key, begin))
        if free < end:
            return 0, free
    raise Conflict(f"the period of {window.customer} has no minute left to stamp an event of {event_name} in")


async def assigned(connection: Connection, tenant: str, meter: str, begin: int, end: int) -> int:
    return int(await connection.fetchval(_ASSIGNED, stored(tenant), stored(meter), begin, end))


async def excused(connection: Connection, tenant: str, meter: str, begin: int, end: int) -> int:
    return int(await connection.fetchval(_EXCUSED, stored(tenant), stored(meter), begin, end))


async def unassigned_minutes(
    connection: Connection, tenant: str, meter: str, begin: int, end: int
) -> dict[int, tuple[int, int]]:
    rows = await connection.fetch(_UNASSIGNED, stored(tenant), stored(meter), begin, end)
    return {minute: (used, taken) for minute, used, taken in rows}
