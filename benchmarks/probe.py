"""Proof by real requests that a server does what it claims, before anything is measured."""

import http.client
import time

from benchmarks.stage import Failed

PATH = "/v1/items/42"
HEADER = "X-API-Key"
TINY = 3  # requests a minute that the key of the tiny plan may make
# The tiny window may turn over between two requests, so twice its limit can pass; the next one cannot.
_TINY_TRIES = 2 * TINY + 2


def ask(port: int, key: str | None, *, path: str = PATH) -> tuple[int, bytes]:
    """Status and body of one GET on a fresh connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={} if key is None else {HEADER: key})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def check_forwards(port: int, key: str, reply: bytes) -> None:
    """The good key gets the upstream's reply, byte for byte. Failed says what came instead."""
    status, body = ask(port, key)
    if (status, body) != (200, reply):
        raise Failed(f"a good request was answered with {status} and {body[:200]!r}")


def check_keys(port: int, key: str) -> None:
    """No key, a wrong key and a key cut short are 401."""
    for case, wrong in (("no key", None), ("a wrong key", "x" * len(key)), ("a cut key", key[:-1])):
        status, _ = ask(port, wrong)
        if status != 401:
            raise Failed(f"claims to check keys, but {case} was answered with {status}")


def check_limit(port: int, tiny_key: str) -> None:
    """The key of the tiny plan passes at first and is refused with 429 soon after."""
    statuses = [ask(port, tiny_key)[0] for _ in range(_TINY_TRIES)]
    if statuses[0] != 200 or statuses[-1] != 429 or set(statuses) != {200, 429}:
        raise Failed(f"claims a limit of {TINY} a minute, but {_TINY_TRIES} requests were answered with {statuses}")


def answers(port: int, key: str) -> bool:
    """Whether the server answers a real request with 200 by now; any failure to connect is a no."""
    try:
        return ask(port, key)[0] == 200
    except (OSError, http.client.HTTPException):
        time.sleep(0.001)
        return False
