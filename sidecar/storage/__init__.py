"""Adapters of the ports in ``core.ports``. Only ``app`` comes in here."""

from sidecar.storage.moving import move
from sidecar.storage.postgres import PostgresStore, SchemaState, migrate_schema, schema_state
from sidecar.storage.redis import RedisLimitStore
from sidecar.storage.sqlite import SqliteStore

__all__ = ["PostgresStore", "RedisLimitStore", "SchemaState", "SqliteStore", "migrate_schema", "move", "schema_state"]
