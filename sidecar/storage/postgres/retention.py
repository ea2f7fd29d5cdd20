"""Forgetting what is old, in transactions of a bounded size: plain functions of a connection in a transaction."""

from sidecar.storage.postgres.connection import Connection

US_PER_DAY = 86_400_000_000
_US = {"minute": 60_000_000, "hour": 3_600_000_000}
_COUNTED = 1_000_000  # rows of a partition that are counted one by one, which takes about 0.1 s; more are estimated
# The oldest partition that ends at or before $1, as the day it holds. Names sort as their days do.
_OLDEST = """
    SELECT to_date(substr(relname, 9), 'YYYYMMDD') - '1970-01-01'::date
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'sidecar.entries'::regclass AND relname ~ '^entries_[0-9]{8}$'
        AND (to_date(substr(relname, 9), 'YYYYMMDD') - '1970-01-01'::date + 1) * 86400000000 <= $1::bigint
    ORDER BY relname
    LIMIT 1
"""
_COUNT = """
    SELECT count(*) FROM (
        SELECT FROM sidecar.entries WHERE started_us >= $1 AND started_us < $2 LIMIT $3
    ) AS found
"""
_ESTIMATE = "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass('sidecar.' || sidecar.partition_name($1))"
_STRAGGLERS = """
    DELETE FROM sidecar.entries_default
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM sidecar.entries_default WHERE started_us < $1 ORDER BY started_us LIMIT $2
    ))
"""


async def drop_oldest(connection: Connection, before_us: int) -> int | None:
    """Drops one partition of which nothing is younger than ``before_us``; about how many events it held. None: none."""
    day = await connection.fetchval(_OLDEST, before_us)
    if day is None:
        return None
    held = int(await connection.fetchval(_COUNT, day * US_PER_DAY, (day + 1) * US_PER_DAY, _COUNTED))
    if held == _COUNTED:
        held = max(held, int(await connection.fetchval(_ESTIMATE, day)))
    await connection.execute("SELECT sidecar.drop_partition($1)", day)
    return held


async def forget_stragglers(connection: Connection, before_us: int, at_most: int) -> int:
    """Deletes events of the default partition."""
    return _count(await connection.execute(_STRAGGLERS, before_us, at_most))


def sums_sql(what: str, period: str) -> str:
    """Deletes at most $2 rows of ``<what>_by_<period>`` before $1, in units of the period."""
    table = f"sidecar.{what}_by_{period}"
    return f"""
        DELETE FROM {table}
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {period} < $1 ORDER BY {period} LIMIT $2))
    """  # noqa: S608 - names of tables


async def forget_sums(connection: Connection, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
    gone = 0
    for period, before_us in (("minute", minutes_before_us), ("hour", hours_before_us)):
        for what in ("latency", "meters", "calls"):
            if gone < at_most:
                sql = sums_sql(what, period)
                gone += _count(await connection.execute(sql, before_us // _US[period], at_most - gone))
    return gone


def _count(status: str) -> int:
    """``DELETE 5``."""
    return int(status.rpartition(" ")[2])
