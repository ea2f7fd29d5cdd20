"""Adapters of the ports in ``core.ports``. Only ``app`` comes in here."""

from sidecar.storage.sqlite import SqliteStore

__all__ = ["SqliteStore"]
