"""Tenants, keys and the ledger in PostgreSQL, for several nodes at once, under row-level security."""

from sidecar.storage.postgres.moves import MoveTarget
from sidecar.storage.postgres.schema import SchemaState, migrate_schema, schema_state
from sidecar.storage.postgres.store import PostgresStore

__all__ = ["MoveTarget", "PostgresStore", "SchemaState", "migrate_schema", "schema_state"]
