"""Tenants, keys and the ledger in one SQLite file."""

from sidecar.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
