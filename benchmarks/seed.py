"""Fills the store of a sidecar that is not running: ``python -m benchmarks.seed DATABASE --keys 1000000``.

The keys are rows like any other, spread over a tenant per hundred; their digests are random, so nobody can use them.
They are inserted by SQL in one transaction, because through the commands each would be a commit of its own.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

KEYS_PER_TENANT = 100
_ID_CHARS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 12
_ADD_TENANT = "INSERT INTO tenants (name, plan, state, stripe_customer, created_ns) VALUES (?, ?, 'active', NULL, ?)"
_ADD_KEY = (
    "INSERT INTO api_keys (id, tenant, name, sandbox, digest, pepper, scopes, created_ns) "
    "VALUES (?, ?, ?, 0, ?, ?, NULL, ?)"
)
_CHANGED = "UPDATE keys_version SET value = value + ?"


def seed(database: Path, keys: int, *, plan: str = "bench", pepper: str = "seed") -> float:
    """Adds ``keys`` keys and a tenant per hundred of them to a store whose schema exists. Seconds that it took.

    ``apsw.Error`` when the store cannot be written; nothing is added then.
    """
    start = time.monotonic()
    now = time.time_ns()
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with connection:
            tenants = ((_tenant(number), plan, now) for number in range(-(-keys // KEYS_PER_TENANT)))
            connection.executemany(_ADD_TENANT, tenants)
            connection.executemany(_ADD_KEY, _rows(keys, pepper, now))
            connection.execute(_CHANGED, (keys,))
        connection.pragma("wal_checkpoint(truncate)")
    finally:
        connection.close()
    return time.monotonic() - start


def key_id(number: int) -> str:
    """The id of the number-th key: base62 of a fixed length, spread over the whole range as random ids are."""
    # Multiplying by an odd constant modulo 2^64 (Knuth, TAOCP 6.4) is a bijection: no two numbers meet.
    mixed = (number * 0x9E3779B97F4A7C15 + 1) % 2**64
    text = ""
    for _ in range(_ID_LENGTH):
        mixed, digit = divmod(mixed, 62)
        text = _ID_CHARS[digit] + text
    return text


def _rows(keys: int, pepper: str, now: int) -> Iterator[tuple[str, str, str, bytes, str, int]]:
    for number in range(keys):
        yield key_id(number), _tenant(number // KEYS_PER_TENANT), f"key {number}", os.urandom(32), pepper, now


def _tenant(number: int) -> str:
    return f"seed-{number:07d}"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 with a message when the store refuses."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seed", description="Fill a store with keys.")
    parser.add_argument("database", type=Path, help="the SQLite file of a sidecar that is not running")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--plan", default="bench")
    options = parser.parse_args(arguments)
    try:
        took = seed(options.database, options.keys, plan=options.plan)
    except apsw.Error as error:
        print(f"{options.database}: {error}", file=sys.stderr)
        return 1
    print(f"{options.keys:,} keys in {took:.1f} s, {options.database.stat().st_size / 2**20:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
