"""Who counts shared limits: the Lua script decides what ``core.leases.Book`` decides, on a server and on a cluster; so
does a parent, over its Unix socket."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from sidecar.core.leases import Answer, Ask, Book, CounterAsk, life_us
from sidecar.core.ports import LimitStore
from sidecar.core.redis_address import RedisAddress
from sidecar.storage.redis import RedisLimitStore
from tests.storage.link import parent
from tests.storage.redis.server import cluster, running

MINUTE = 60_000_000


@pytest.fixture(scope="module", params=["redis", "cluster", "parent"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "redis":
        with running() as server:
            yield server.url
    elif request.param == "parent":
        with parent.running() as path:
            yield f"unix:{path}"
    else:
        with cluster() as masters:
            yield "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in masters[:2])


async def opened(url: str) -> LimitStore:
    """One node's store."""
    if url.startswith("unix:"):
        return await parent.Worker.open(Path(url.removeprefix("unix:")))
    return RedisLimitStore(RedisAddress.parse(url), budget_s=5)


@pytest.fixture
async def store(url: str) -> AsyncIterator[LimitStore]:
    one = await opened(url)
    yield one
    await one.close()


def counter(limit: int = 10, window: int = MINUTE, life: int | None = None, **more: int) -> CounterAsk:
    return CounterAsk("steady", limit, window, life_us(window) if life is None else life)._replace(**more)


def ask(tag: str, *counters: CounterAsk, requests: int = 1, units: int = 1, seen: Answer | None = None) -> Ask:
    epoch, seq = (seen.epoch, seen.seq) if seen else (0, 0)
    return Ask(tag, units, requests, epoch, seq, secrets.randbits(48) + 1, counters)


class Caller:
    """Makes up calls of any kind by the seed, as a node that forgets, lies about nothing and gives some units back."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seen: Answer | None = None
        self.taken: dict[str, list[tuple[int, int]]] = {}

    def ask(self, tag: str, exact: bool) -> Ask:
        pick = self.random
        counters = []
        for key, limit, window in (("burst", 7, 20_000), ("steady", 30, 150_000), ("per {key}:ü", 200, 900_000)):
            if pick.random() < 0.85:
                life = 0 if exact else max(2_000, window // 120)
                counters.append(self._counter(key, limit, window, life, exact))
        requests, units = pick.choice([0, 1, 1, 1, 2, 9]), pick.choice([0, 1, 1, 3, 8])
        made = ask(tag, *counters, requests=requests, units=units, seen=self.seen)
        if pick.random() < 0.02:
            made = made._replace(seq=made.seq + 5)  # a replica took over that had not heard of the last calls
        return made if pick.random() > 0.02 else made._replace(epoch=0, seq=0)

    def _counter(self, key: str, limit: int, window: int, life: int, exact: bool) -> CounterAsk:
        pick = self.random
        if pick.random() < 0.03:
            limit, window = limit // 2, window * 2  # the policy was changed
        left, ahead, own, returns = 0, 0, 0, ()
        if not exact:
            left, ahead, own = pick.choice([0, 0, 1, 4]), pick.choice([0, 5, 500]), pick.choice([0, 3])
            taken = self.taken.setdefault(key, [])
            returns = tuple(taken.pop() for _ in range(min(len(taken), pick.choice([0, 0, 1, 3]))))
        return CounterAsk(key, limit, window, life, left, ahead, own, returns)

    def told(self, made: Ask, answer: Answer) -> None:
        self.seen = answer
        for each, standing in zip(made.counters, answer.counters, strict=True):
            if standing.granted:
                self.taken.setdefault(each.key, []).append((answer.now_us, self.random.randint(0, standing.granted)))


@pytest.mark.parametrize("exact", [False, True], ids=["leased", "exact"])
@pytest.mark.parametrize("seed", range(4))
async def test_a_recorded_trace_gets_the_same_answers_from_each_store(
    store: LimitStore, seed: int, exact: bool
) -> None:
    """apache/apisix#12592, Kong/kong#11846. The store's own moments are given to the book, so that time is the same."""
    book, caller, tag = Book(), Caller(seed), secrets.token_hex(8)
    decisions = set()
    for _ in range(600):
        made = caller.ask(tag, exact)
        answer = await store.lease(made)
        assert answer == book.lease(made, answer.now_us)
        caller.told(made, answer)
        decisions.add((made.requests > 0, answer.passed > 0))
    assert len(decisions) == 3


async def test_of_many_callers_at_the_last_unit_one_passes(store: LimitStore) -> None:
    """BerriAI/litellm#34732, #40095."""
    tag = secrets.token_hex(8)
    await store.lease(ask(tag, counter(), requests=9))
    answers = await asyncio.gather(*(store.lease(ask(tag, counter())) for _ in range(12)))
    assert sum(answer.passed for answer in answers) == 1


async def test_a_refused_request_takes_nothing_from_any_limit(store: LimitStore) -> None:
    """envoyproxy/ratelimit#185, TykTechnologies/tyk#265."""
    tag = secrets.token_hex(8)
    wide, narrow = counter(100), counter(1)._replace(key="narrow")
    assert (await store.lease(ask(tag, wide, narrow))).passed == 1
    refused = await store.lease(ask(tag, wide, narrow))
    assert (refused.passed, [each.left for each in refused.counters]) == (0, [99, 0])


async def test_a_limit_is_one_bucket_whoever_asks(url: str) -> None:
    """apache/apisix#12946, #13584, #6760, #11774, Kong/kong#2669: nothing of a node is part of a counter's key."""
    tag = secrets.token_hex(8)
    nodes = [await opened(url) for _ in range(3)]
    passed = [(await node.lease(ask(tag, counter(2)))).passed for node in nodes]
    for node in nodes:
        await node.close()
    assert passed == [1, 1, 0]


async def test_tags_that_look_alike_are_apart(store: LimitStore) -> None:
    """Keys are injective, whatever a tenant is called."""
    end = secrets.token_hex(4)
    for tag in (f"a}}:{end}", f"a%7D:{end}", f"{{a}}{end}", f"a{end}", ""):
        assert (await store.lease(ask(f"{tag}{end}", counter(1)))).passed == 1, tag


@pytest.mark.parametrize("url", ["redis", "cluster"], indirect=True)
async def test_a_server_that_forgot_its_scripts_is_asked_again(store: LimitStore) -> None:
    assert isinstance(store, RedisLimitStore)
    tag = secrets.token_hex(8)
    await store.lease(ask(tag, counter()))
    client = cast("object", store._client)
    await client.script_flush()  # type: ignore[attr-defined] # one of two kinds of client
    assert (await store.lease(ask(tag, counter()))).counters[0].left == 8
