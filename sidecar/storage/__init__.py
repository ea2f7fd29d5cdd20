"""Adapters of the ports in ``core.ports``. Only ``app`` comes in here."""

from sidecar.storage.link import (
    BookStore,
    Channel,
    Handler,
    LinkLimitStore,
    LinkServer,
    LinkStore,
    Wire,
    connect,
    own_socket,
    short_name,
)
from sidecar.storage.moving import move
from sidecar.storage.postgres import PostgresStore, SchemaState, migrate_schema, schema_state
from sidecar.storage.redis import RedisLimitStore
from sidecar.storage.sqlite import SqliteStore

__all__ = [
    "BookStore",
    "Channel",
    "Handler",
    "LinkLimitStore",
    "LinkServer",
    "LinkStore",
    "PostgresStore",
    "RedisLimitStore",
    "SchemaState",
    "SqliteStore",
    "Wire",
    "connect",
    "migrate_schema",
    "move",
    "own_socket",
    "schema_state",
    "short_name",
]
