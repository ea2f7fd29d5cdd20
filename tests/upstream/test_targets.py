"""Several targets on real sockets: shares, other targets when one cannot be reached, names that move."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import UpstreamError
from sidecar.core.upstreams import Breaker, Retries, Target, Upstream
from sidecar.upstream import TargetPool, UpstreamPool
from tests.gateway.cruel import until


def first(_: int) -> int:
    """Chance that always says 0: the first target is drawn first."""
    return 0


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for _ in range(5):
        await asyncio.sleep(0)


async def ended(pool: UpstreamPool) -> None:
    pool.abort()
    await until(lambda: not any(target.connections for target in pool.targets))


async def test_a_target_that_cannot_be_reached_costs_nobody_a_call(port: int) -> None:
    """Nothing was sent, so any method may go elsewhere; the failure counts where it happened."""
    targets = (Target("http", "127.0.0.1", closed_port()), Target("http", "127.0.0.1", port))
    pool = UpstreamPool(Upstream("api", targets, breaker=Breaker(failures=2)), ManualClock(), draw=first)
    for _ in range(3):
        target, _connection = await pool.acquire()
        assert target.target == targets[1]
    dead, alive = pool.readings()
    assert (dead.failures, dead.up, dead.breaker) == ({"connect": 2}, False, "open")
    assert (alive.failures, alive.up, alive.retries) == ({}, True, {"connect": 2})
    await ended(pool)


@pytest.mark.parametrize("retries", [Retries(attempts=0), Retries(percent=0, reserve=0)])
async def test_retries_end_with_their_attempts_and_their_budget(port: int, retries: Retries) -> None:
    targets = (Target("http", "127.0.0.1", closed_port()), Target("http", "127.0.0.1", port))
    pool = UpstreamPool(Upstream("api", targets, retries=retries), ManualClock(), draw=first)
    with pytest.raises(UpstreamError) as caught:
        await pool.acquire()
    assert caught.value.kind == "connect"
    await ended(pool)


async def test_each_target_is_tried_once() -> None:
    targets = tuple(Target("http", "127.0.0.1", closed_port()) for _ in range(5))
    pool = UpstreamPool(Upstream("api", targets, retries=Retries(attempts=2)), ManualClock())
    with pytest.raises(UpstreamError):
        await pool.acquire()
    assert sorted(sum(reading.failures.values()) for reading in pool.readings()) == [0, 0, 1, 1, 1]


async def test_one_call_probes_a_target_whose_time_is_over(port: int) -> None:
    """Half-open: exactly one is sent there, the others go on elsewhere; a reply brings it back."""
    clock = ManualClock()
    targets = (Target("http", "127.0.0.1", port), Target("http", "localhost", port))
    pool = UpstreamPool(Upstream("api", targets, breaker=Breaker(failures=1)), clock)
    broken = pool.targets[0]
    broken.failed("reset")
    assert {pool.pick() for _ in range(20)} == {pool.targets[1]}
    clock.advance(10)
    assert [pool.pick() for _ in range(3)] == [broken, pool.targets[1], pool.targets[1]]
    broken.answered(200)
    assert {pool.pick() for _ in range(100)} == set(pool.targets)


async def test_a_full_target_leaves_the_call_to_another(port: int) -> None:
    targets = (Target("http", "127.0.0.1", port), Target("http", "localhost", port))
    pool = UpstreamPool(Upstream("api", targets, max_connections=1), ManualClock())
    taken: set[TargetPool] = set()
    for _ in range(2):
        taken.add((await pool.acquire(picked=pool.targets[0]))[0])
    assert taken == set(pool.targets)
    await ended(pool)


class Names:
    """A resolver whose answer is changed by hand."""

    def __init__(self, *answer: str) -> None:
        self.answer: tuple[str, ...] | OSError = answer
        self.asked = 0

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked += 1
        if isinstance(self.answer, OSError):
            raise self.answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.answer]


def named(port: int, clock: ManualClock) -> UpstreamPool:
    return UpstreamPool(Upstream("api", (Target("http", "api.example", port),)), clock)


@pytest.fixture
async def resolver(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names("127.0.0.1")
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", made.getaddrinfo)
    return made


async def test_a_name_is_resolved_once_per_refresh(port: int, resolver: Names) -> None:
    clock = ManualClock()
    pool = named(port, clock)
    for _ in range(3):
        await pool.acquire()
    assert resolver.asked == 1
    clock.advance(30)
    pool.sweep(clock.monotonic_ns())
    await until(lambda: resolver.asked == 2)
    await ended(pool)


async def test_connections_follow_a_name_that_moved(port: int, resolver: Names) -> None:
    """Idle ones are closed, those in use after their reply; new ones go to the new address."""
    clock = ManualClock()
    pool = named(port, clock)
    target, idle = await pool.acquire()
    _, busy = await pool.acquire()
    target.put_back(idle)
    resolver.answer = ("127.0.0.2",)
    clock.advance(30)
    pool.sweep(clock.monotonic_ns())
    await until(lambda: target.addresses.known == ("127.0.0.2",))
    pool.sweep(clock.monotonic_ns())
    assert (idle.closed, busy.closed) == (True, False)
    target.put_back(busy)
    assert busy.closed
    await ended(pool)


async def test_the_last_answer_holds_while_none_comes(port: int, resolver: Names) -> None:
    clock = ManualClock()
    pool = named(port, clock)
    target, connection = await pool.acquire()
    resolver.answer = socket.gaierror(-3, "temporary failure")
    clock.advance(30)
    pool.sweep(clock.monotonic_ns())
    await until(lambda: resolver.asked == 2)
    target.put_back(connection)
    assert not connection.closed
    assert (await pool.acquire())[1] is connection
    await pool.acquire()
    await ended(pool)


async def test_a_name_that_never_was(resolver: Names) -> None:
    resolver.answer = socket.gaierror(-2, "unknown name")
    pool = named(80, ManualClock())
    with pytest.raises(UpstreamError, match="unknown name"):
        await pool.acquire()
    assert pool.targets[0].failures == {"connect": 1}


async def test_the_addresses_of_a_name_take_turns_and_a_dead_one_goes_last(port: int, resolver: Names) -> None:
    """Nothing listens at 127.0.0.2: each new connection comes about, and the dead one is met once per answer."""
    resolver.answer = ("127.0.0.2", "127.0.0.1")
    pool = named(port, ManualClock())
    for _ in range(4):
        assert (await pool.acquire())[1].address == "127.0.0.1"
    assert pool.targets[0].failures == {}
    assert await pool.targets[0].addresses.next() == ["127.0.0.1", "127.0.0.2"]
    await ended(pool)


def test_another_weight_is_another_upstream() -> None:
    """A reload keeps the pool of an upstream that is equal to the one before."""
    light, heavy = (Upstream("api", (Target("http", "a.example", 80, weight=weight),)) for weight in (1, 2))
    assert light != heavy


@pytest.mark.parametrize(("share", "left"), [(100, 1), (50, 2), (25, 3), (1, 3)])
async def test_only_a_share_of_the_targets_is_left_alone(share: int, left: int) -> None:
    """When everything fails, something must be wrong that leaving targets alone does not mend; always one may be, and
    the last one never."""
    targets = tuple(Target("http", "127.0.0.1", port) for port in range(1, 5))
    pool = UpstreamPool(Upstream("api", targets, breaker=Breaker(failures=1, share=share)), ManualClock())
    for target in pool.targets:
        for _ in range(3):
            target.failed("reset")
    assert sum(target.up for target in pool.targets) == left
