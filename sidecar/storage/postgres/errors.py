"""PostgreSQL's failures in words for people: every one becomes a StoreError that names the server, never a password."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from sidecar.core.errors import StoreDown, StoreError, StoreFull
from sidecar.storage.postgres.address import Address


class AddressError(asyncpg.InterfaceError):  # type: ignore[misc]  # asyncpg has no types of its own
    """The URL cannot be used."""


_NO_SCHEMA = "has not the schema of this version; run: sidecar schema apply"
# The first that fits says it. StoreDown is what may pass by itself.
_TEXTS: tuple[tuple[type[Exception], type[StoreError], str], ...] = (
    (asyncpg.InvalidPasswordError, StoreError, "refuses this user and password"),
    (asyncpg.InvalidAuthorizationSpecificationError, StoreError, "refuses this user"),
    (asyncpg.InvalidCatalogNameError, StoreError, "has no such database; make it with CREATE DATABASE"),
    (asyncpg.TooManyConnectionsError, StoreDown, "has no connection left; raise max_connections"),
    (asyncpg.CannotConnectNowError, StoreDown, "is starting or stopping"),
    (asyncpg.AdminShutdownError, StoreDown, "has ended the connection"),
    (asyncpg.CrashShutdownError, StoreDown, "has ended the connection"),
    (asyncpg.IdleInTransactionSessionTimeoutError, StoreDown, "has ended the connection"),
    (asyncpg.ReadOnlySQLTransactionError, StoreDown, "takes no writes: it is a replica"),
    (asyncpg.DiskFullError, StoreFull, "cannot grow: its disk is full"),
    (asyncpg.QueryCanceledError, StoreDown, "took too long and was told to stop"),
    (asyncpg.LockNotAvailableError, StoreDown, "is busy with another session's lock"),
    (asyncpg.DeadlockDetectedError, StoreDown, "is busy with another session's lock"),
    (asyncpg.UndefinedTableError, StoreError, _NO_SCHEMA),
    (asyncpg.UndefinedFunctionError, StoreError, _NO_SCHEMA),
    (asyncpg.UndefinedColumnError, StoreError, _NO_SCHEMA),
    (asyncpg.InvalidSchemaNameError, StoreError, _NO_SCHEMA),
    (AddressError, StoreError, "cannot be addressed"),
    (TimeoutError, StoreDown, "does not answer in time"),
    (ssl.SSLError, StoreError, "cannot be spoken to by TLS"),
    (OSError, StoreDown, "cannot be reached"),
    (asyncpg.InterfaceError, StoreDown, "lost the connection"),
    (asyncpg.InternalClientError, StoreDown, "lost the connection"),
    (asyncpg.PostgresConnectionError, StoreDown, "lost the connection"),
)
# All that asyncpg and the network raise. What asyncpg calls internal comes when a connection breaks at a bad moment:
# "cannot switch to state 15; another operation is in progress" (seen after kill -9 of the server).
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# What a record, and not the store, is to blame for: its values (class 22), the tables' checks (23), an index row that
# is too long (54).
DATA_ERRORS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turns asyncpg's and the network's exceptions inside the block into a StoreError about ``address``.

    The cause is not chained: its text may hold what the URL holds.
    """
    try:
        yield
    except FAILURES as error:
        found = ((made, text) for kind, made, text in _TEXTS if isinstance(error, kind))
        made, text = next(found, (StoreError, "failed"))
        detail = address.without_secrets(str(error)).strip().splitlines()
        because = f": {detail[0]}" if detail and detail[0] else ""
        raise made(f"PostgreSQL at {address} {text}{because}") from None


def ends_connection(error: BaseException) -> bool:
    """Whether a connection on which this happened is good for nothing any more."""
    if isinstance(error, asyncpg.PostgresError):
        return getattr(error, "severity_en", None) in ("FATAL", "PANIC") or isinstance(
            error, asyncpg.PostgresConnectionError | asyncpg.OperatorInterventionError
        )
    return True
