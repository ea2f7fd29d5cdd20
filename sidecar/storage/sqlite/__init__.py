"""Tenants, keys and the ledger in one SQLite file."""

from sidecar.storage.sqlite.store import SqliteStore
from sidecar.storage.sqlite.tables import TABLES

__all__ = ["TABLES", "SqliteStore"]
