"""What only a Redis has: expiries, logins, sentinels, its going away, and what a call costs it."""

import random
import secrets
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from sidecar.core.budgets import BudgetAsk
from sidecar.core.errors import StoreDown
from sidecar.core.leases import Answer, Ask, CounterAsk, life_us
from sidecar.core.redis_address import RedisAddress
from sidecar.storage.redis import RedisLimitStore
from tests.storage.redis.server import Server, running

MINUTE = 60_000_000


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


@pytest.fixture(scope="module")
def one_server() -> Iterator[Redis]:
    with running() as one, Redis.from_url(one.url) as client:
        yield client


def call(*keys: str, limit: int = 10, window: int = MINUTE, seen: Answer | None = None, requests: int = 1) -> Ask:
    counters = tuple(CounterAsk(key, limit, window, life_us(window)) for key in keys or ("steady",))
    return Ask(
        "acme", 1, requests, seen.epoch if seen else 0, seen.seq if seen else 0, secrets.randbits(48) + 1, counters
    )


async def test_every_key_has_an_expiry_from_its_first_moment(server: Server) -> None:
    """Kong/kong#5763: set by the same command that writes the key."""
    store = RedisLimitStore(RedisAddress.parse(server.url), budget_s=5)
    for requests in (1, 0, 99):
        await store.lease(call("burst", "steady", requests=requests))
    await store.close()
    lives = {key: int(server.cli("PTTL", key)) for key in server.cli("KEYS", "*").split()}
    assert set(lives) == {"sidecar:{acme}", "sidecar:{acme}:burst", "sidecar:{acme}:steady"}
    kept_ms = (MINUTE + life_us(MINUTE)) // 1000
    assert all(kept_ms - 5_000 < life < 3 * kept_ms for life in lives.values())


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_a_counter_is_kept_while_what_was_granted_counts(one_server: Redis, seed: int) -> None:
    """Most calls write its head alone, which leaves the expiry as it is. The script is told the time, which goes back
    now and then: a clock that is put right, or a replica that took over."""
    pick, time_us, behind, ends = random.Random(seed), 10**15, 0, 0
    counts: list[tuple[int, int]] = []  # from when, and for how long; a shorter window shortens it for good
    script = files("sidecar.storage.redis").joinpath("lease.lua").read_text()
    timed = script.replace("call('TIME')", "{ARGV[2], ARGV[3]}")
    assert timed != script
    one_server.flushdb()
    for step in range(60):
        time_us += pick.choice([0, 50, 5_000, 500_000, 5_000_000, 70_000_000])
        behind += pick.choice([0] * 9 + [700_000, 5_000_000])
        now = time_us - behind
        window, life = pick.choice([(1_000_000, 8_333), (60_000_000, 500_000), (60_000_000, 0)])
        returns = [(now - pick.choice([1, 900_000]), 2)] * pick.choice([0, 0, 1])
        requests = pick.choice([0, 1, 1])
        head = (1, requests, 0, 0, step + 1, 1)
        ahead, calm = pick.choice([0, 9]), pick.choice([0, 1])
        counter = (50, window, life, 0, ahead, 0, calm, len(returns))
        numbers = [*head, *counter, *(number for part in returns for number in part)]
        packed = struct.pack(f"<{len(numbers)}d", *numbers)
        reply = one_server.eval(timed, 2, "page", "counter", packed, now // 10**6, now % 10**6)
        granted, *_, longer = struct.unpack("<6d", cast("bytes", reply)[32:])
        lives_ms = cast("int", one_server.pttl("counter"))
        if lives_ms > 0:
            ends = now + lives_ms * 1000  # by the server's clock, as Redis keeps it
            one_server.persist("counter")  # so that the next call shows whether it sets one
        counts = [(since, min(span, window + life + 1_000_000)) for since, span in counts]
        if granted:
            counts.append((time_us, window + life + int(longer)))
        assert all(since + span <= ends + behind for since, span in counts)


async def test_a_budget_has_an_expiry_too_and_it_is_its_periods_end(server: Server) -> None:
    """Kong/kong#5763."""
    store = RedisLimitStore(RedisAddress.parse(server.url), budget_s=5)
    day_us = 86_400_000_000
    budget = BudgetAsk("q:month", 7, 100, day_us, 1, 1, 1, seed=0)
    await store.lease(call()._replace(budgets=(budget,)))
    await store.lease(call())  # one without it does not cut the page's life short
    await store.close()
    for key in ("sidecar:{acme}", "sidecar:{acme}:q:month"):
        assert day_us // 1000 - 5_000 < int(server.cli("PTTL", key)) <= day_us // 1000 + 1


async def test_a_user_of_an_acl_may_do_no_more_than_it_needs(server: Server) -> None:
    """The rules of ``sidecar.storage.redis.store``."""
    rules = "on >p@ss:w/rd ~sidecar:* -@all +evalsha +eval +mget +set +setrange +time +ping +hello +client +select"
    server.cli("ACL", "SETUSER", "limits", "reset", *rules.split())
    server.cli("CONFIG", "SET", "requirepass", "other")
    store = RedisLimitStore(RedisAddress.parse(f"redis://limits:p%40ss%3Aw%2Frd@127.0.0.1:{server.port}/0"), budget_s=5)
    await store.ready()
    assert (await store.lease(call())).passed == 1
    await store.close()


async def test_a_wrong_password_says_so_without_it(server: Server) -> None:
    store = RedisLimitStore(RedisAddress.parse(f"redis://limits:sesame@127.0.0.1:{server.port}"), budget_s=5)
    with pytest.raises(StoreDown, match="127") as caught:
        await store.ready()
    await store.close()
    assert "sesame" not in f"{caught.value!r} {store._address!r}"


async def test_a_server_that_is_gone_is_said_in_time_and_found_again(server: Server) -> None:
    """envoyproxy/ratelimit#297: recovers alone. A store that came back empty is told what was granted."""
    store = RedisLimitStore(RedisAddress.parse(server.url), budget_s=1)
    seen = await store.lease(call(requests=9))
    server.stop()
    with pytest.raises(StoreDown, match=f"127.0.0.1:{server.port}"):
        await store.lease(call())
    server.start()
    await store.ready()
    ask = call(seen=seen, requests=2)
    again = await store.lease(ask._replace(counters=(ask.counters[0]._replace(own=9),)))
    await store.close()
    assert (again.passed, again.counters[0].left) == (1, 0)


async def test_a_server_that_hangs_costs_no_more_than_the_budget(server: Server) -> None:
    """Kong/kong#2382: a call that is never answered ends, and the connection is not used with its late answer."""
    store = RedisLimitStore(RedisAddress.parse(server.url), budget_s=0.2)
    await store.ready()
    await store.lease(call(limit=50))
    server.cli("CLIENT", "PAUSE", "1500")
    with pytest.raises(StoreDown, match="no answer within 200 ms"):
        await store.lease(call(limit=50, requests=7))
    server.cli("CLIENT", "UNPAUSE")
    patient = RedisLimitStore(RedisAddress.parse(server.url), budget_s=5)
    left = (await patient.lease(call(limit=50, requests=0))).counters[0].left
    again = await store.lease(call(limit=50))
    await store.close()
    await patient.close()
    assert (again.passed, again.counters[0].left) == (1, left - 1)


async def test_sentinels_name_the_master(server: Server) -> None:
    with ExitStack() as stack:
        watcher = stack.enter_context(running("--sentinel"))
        watcher.cli("SENTINEL", "MONITOR", "limits", "127.0.0.1", str(server.port), "1")
        store = RedisLimitStore(RedisAddress.parse(f"redis+sentinel://127.0.0.1:{watcher.port}/limits/3"), budget_s=5)
        await store.ready()
        assert (await store.lease(call())).passed == 1
        await store.close()
    assert "sidecar:{acme}" in server.cli("-n", "3", "KEYS", "*")


async def test_ten_full_limits_are_one_call(server: Server) -> None:
    """What it takes Redis is measured by ``python -m benchmarks shared``."""
    store = RedisLimitStore(RedisAddress.parse(server.url), budget_s=5)
    keys = [f"limit-{i}" for i in range(10)]
    end = time.monotonic() + 1.2
    while time.monotonic() < end:  # fills all cells
        await store.lease(call(*keys, limit=10**6, window=900_000))
    server.cli("CONFIG", "RESETSTAT")
    for _ in range(500):
        await store.lease(call(*keys, limit=10**6, window=900_000))
    await store.close()
    stats = dict(line.split(":", 1) for line in server.cli("INFO", "commandstats").split() if ":" in line)
    assert stats["cmdstat_evalsha"].startswith("calls=500,")
    assert "cmdstat_eval" not in stats


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://a", "is no URL of Redis"),
        ("redis://a,b", "more hosts"),
        ("redis://a/x", "names no database"),
        ("redis://a:99999", "names no port"),
        ("redis://", "names no host"),
        ("redis://[::1", "names no host"),
        ("redis+cluster://a,[b]x", "names no host"),
        ("redis:a", "is no URL of Redis"),
        ("redis+sentinel://a", "names no master"),
        ("redis+cluster://a/1", "longer path"),
        ("redis://a?ca=x", "unknown option"),
        ("rediss://a?tls=x", "unknown option"),
    ],
)
def test_an_address_that_means_nothing_is_refused(url: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        RedisAddress.parse(url)


def test_ipv6_stands_in_any_place() -> None:
    hosts = RedisAddress.parse("redis+cluster://:p%2Fw@a,[::1]:7000,[::2]").hosts
    assert hosts == (("a", 6379), ("::1", 7000), ("::2", 6379))
    assert RedisAddress.parse("REDIS://[::1]//3").database == 3


def test_an_address_says_who_asks_and_by_which_certificates() -> None:
    address = RedisAddress.parse("rediss+sentinel://me:a%2Fb@[::1],b:7/main/2?ca=ca.pem")
    assert address == RedisAddress("sentinel", (("::1", 26379), ("b", 7)), "me", "a/b", "main", 2, True, "ca.pem")
    assert address.login()["ssl_ca_certs"] == "ca.pem"
