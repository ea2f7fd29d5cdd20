"""Forgetting what is old, in transactions of a bounded size: plain functions of a connection."""

import apsw

from sidecar.storage.sqlite.connection import transaction
from sidecar.storage.sqlite.names import END, names

_US = {"minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}
# The oldest arrivals stand together, so that deleting them touches few pages; only as many are looked at as may go.
FRONT = """
    DELETE FROM entries
    WHERE seq IN (SELECT seq FROM entries ORDER BY seq LIMIT :at_most) AND started_us < :before
"""
# Old events that arrived behind younger ones: a look-up per tenant finds them, or that there is none.
REST = f"""
    {names("entries")}
    DELETE FROM entries
    WHERE seq IN (
        SELECT seq FROM names CROSS JOIN entries WHERE tenant = name AND started_us < :before LIMIT :at_most
    )
"""  # noqa: S608 - fixed texts


def sums_sql(what: str, period: str) -> str:
    """Deletes at most :at_most rows of ``<what>_by_<period>`` before :before, in units of the period."""
    table = f"{what}_by_{period}"
    extra = {"calls": "", "meters": ", meter", "latency": ", bucket"}[what]
    key = f"tenant, {period}, plan, key_id, route, status_class, sandbox{extra}"
    return f"""
        {names(table)}
        DELETE FROM {table}
        WHERE ({key}) IN (
            SELECT {key} FROM names CROSS JOIN {table} WHERE tenant = name AND {period} < :before LIMIT :at_most
        )
    """  # noqa: S608 - fixed texts


def forget_events(connection: apsw.Connection, before_us: int, at_most: int) -> int:
    gone = 0
    with transaction(connection):
        for statement in (FRONT, REST):
            if gone < at_most:
                gone += _delete(connection, statement, before_us, at_most - gone)
    return gone


def forget_sums(connection: apsw.Connection, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
    """Days go with their last hour: what is gone of the hours is answered for by whole days until then."""
    edges = {"minute": minutes_before_us, "hour": hours_before_us, "day": hours_before_us}
    gone = 0
    with transaction(connection):
        for period, before_us in edges.items():
            for what in ("latency", "meters", "calls"):  # calls last: no meter is without its calls
                if gone < at_most:
                    gone += _delete(connection, sums_sql(what, period), before_us // _US[period], at_most - gone)
    return gone


def _delete(connection: apsw.Connection, statement: str, before: int, at_most: int) -> int:
    asked = {"before": before, "at_most": at_most, "first": "", "last": END}
    connection.execute(statement, asked)
    return connection.changes()
