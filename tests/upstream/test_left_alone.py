"""What the breakers of an upstream leave of it: the last target that gets calls, and one that takes no connections."""

import asyncio
import socket

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import UpstreamError
from sidecar.core.upstreams import Breaker, Target, Upstream
from sidecar.upstream import UpstreamPool
from tests.gateway.cruel import until

BAD = ["reset", "bad_response", "first_byte_timeout", "idle_timeout", "total_timeout"]


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def pool_of(clock: ManualClock, *ports: int, failures: int = 2) -> UpstreamPool:
    targets = tuple(Target("http", "127.0.0.1", port) for port in ports)
    return UpstreamPool(Upstream("api", targets, breaker=Breaker(failures=failures)), clock)


@pytest.mark.parametrize("kind", BAD)
def test_the_only_target_keeps_its_calls_whatever_it_answers(kind: str) -> None:
    """Decision 23: 503 for everybody is no better than a bad reply for some."""
    pool = pool_of(ManualClock(), 1)
    (target,) = pool.targets
    for _ in range(20):
        target.failed(kind)
    assert (target.up, target.breaker.word, pool.available) == (True, "closed", True)
    assert pool.pick() is target


def test_the_last_of_several_keeps_its_calls_until_another_is_back() -> None:
    clock = ManualClock()
    pool = pool_of(clock, 1, 2)
    first, last = pool.targets
    for target in (first, last):
        for _ in range(9):
            target.failed("reset")
    assert (first.up, last.up) == (False, True)
    clock.advance(10)
    assert pool.pick() is first
    first.answered(200)
    assert first.up
    last.failed("reset")
    assert (first.up, last.up) == (True, False)


def test_a_target_whose_checks_fail_is_not_another() -> None:
    pool = pool_of(ManualClock(), 1, 2)
    first, last = pool.targets
    first.mark(healthy=False)
    for _ in range(9):
        last.failed("reset")
    assert last.up


async def test_a_target_that_takes_connections_again_gets_calls_at_once() -> None:
    """No call has to find out, and none waits for ``open_for``: the sweep connects, and that connection is used."""
    clock, port = ManualClock(), closed_port()
    pool = pool_of(clock, port)
    (target,) = pool.targets
    for _ in range(2):
        with pytest.raises(UpstreamError, match="no connection"):
            await pool.acquire()
    assert (target.breaker.word, pool.available) == ("open", False)
    with pytest.raises(UpstreamError, match="not available"):
        await pool.acquire()
    clock.advance(60)
    assert (pool.pick(), pool.available) == (None, False)
    pool.sweep(clock.monotonic_ns())
    trying = target._trying
    assert trying is not None
    pool.sweep(clock.monotonic_ns())
    assert target._trying is trying  # one at a time
    await trying
    assert not target.up
    assert target.failures == {"connect": 2}  # of calls
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port)
    pool.sweep(clock.monotonic_ns())
    await until(lambda: target.up)
    assert len(target.idle) == 1
    _, connection = await pool.acquire()
    assert (len(target.connections), connection.closed, pool.available) == (1, False, True)
    pool.abort()
    server.close()
    await until(lambda: not target.connections)


async def test_the_only_target_is_not_left_alone_for_a_reset_after_it_took_no_connections() -> None:
    """What opened the breaker counts, not what fails beside it."""
    clock = ManualClock()
    pool = pool_of(clock, closed_port())
    (target,) = pool.targets
    for _ in range(2):
        target.failed("connect")
    target.failed("reset")
    clock.advance(60)
    assert not target.due
    target.answered(200)  # on a connection from before
    assert target.up
    for _ in range(9):
        target.failed("reset")
    assert target.up


async def test_a_pool_that_leaves_tries_nothing() -> None:
    clock = ManualClock()
    pool = pool_of(clock, closed_port(), failures=1)
    (target,) = pool.targets
    target.failed("connect")
    pool.sweep(clock.monotonic_ns())
    trying = target._trying
    assert trying is not None
    pool.abort()
    await until(trying.done)
    pool.sweep(clock.monotonic_ns())
    assert target._trying is trying


def test_an_upstream_is_available_where_a_probe_may_go() -> None:
    """Otherwise whoever asks ``/readyz`` before sending calls would never send the one that finds out."""
    clock = ManualClock()
    pool = pool_of(clock, 1, 2)
    first, last = pool.targets
    for _ in range(2):
        first.failed("reset")
    for _ in range(2):
        last.failed("connect")
    assert (first.up, last.up, pool.available) == (False, False, False)
    clock.advance(10)
    assert pool.available
    assert [reading.up for reading in pool.readings()] == [True, False]
