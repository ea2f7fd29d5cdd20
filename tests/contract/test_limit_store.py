"""Who counts shared limits: the Lua script decides what ``core.leases.Book`` decides, on a server and on a cluster; so
does a parent, over its Unix socket."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from sidecar.core.budgets import BudgetAsk
from sidecar.core.leases import Answer, Ask, Book, CounterAsk, life_us
from sidecar.core.ports import LimitStore
from sidecar.core.purses import MOST, PartAsk, PurseAsk
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
        self.calls = 0
        self.settled = 0

    def ask(self, tag: str, exact: bool) -> Ask:
        pick = self.random
        counters = []
        for key, limit, window in (("burst", 7, 20_000), ("steady", 30, 150_000), ("per {key}:ü", 200, 900_000)):
            if pick.random() < 0.85:
                life = 0 if exact else max(2_000, window // 120)
                counters.append(self._counter(key, limit, window, life, exact))
        requests, units = pick.choice([0, 1, 1, 1, 2, 9]), pick.choice([0, 1, 1, 3, 8])
        made = ask(tag, *counters, requests=requests, units=units, seen=self.seen)
        made = made._replace(budgets=tuple(self._budgets()))
        if pick.random() < 0.5:
            made = self._with_purse(made)
        if pick.random() < 0.02:
            made = made._replace(seq=made.seq + 5)  # a replica took over that had not heard of the last calls
        return made if pick.random() > 0.02 else made._replace(epoch=0, seq=0)

    def _budgets(self) -> Iterator[BudgetAsk]:
        """The accounts of three nodes: in order mostly, some overtaken, some forgotten, corrected now and then."""
        pick = self.random
        for key, limit in (("day", 90), ("month", 4000)):
            if pick.random() < 0.8:
                self.calls += pick.choice([1, 1, 1, -1])
                self.settled += pick.choice([0, 0, 1, 40])
                hold = pick.choice([0, 1, 7])
                least = pick.choice([0, hold, 1]) if hold else pick.choice([0, 1])
                held = pick.choice([0, 0, 3, 20])
                yield BudgetAsk(
                    *(key, pick.randint(1, 3), limit, pick.choice([400_000, 10**8]), hold, least, max(1, self.calls)),
                    *(held, pick.choice([0, held // 2]), pick.choice([0, 30]), self.settled, self.settled // 2),
                    *(pick.choice([0, 0, 0, 1]), pick.choice([-1, 0, 25]), pick.choice([0] * 9 + [60])),
                    pick.choice([0] * 5 + [50]),
                )

    def _with_purse(self, made: Ask) -> Ask:
        """Money: three meters, priced by the unit with some included, by the package, and by volume (it falls)."""
        pick, budgets, parts = self.random, list(made.budgets), []
        prices: list[tuple[int, int, tuple[tuple[int, int, int, int], ...]]] = [
            (0, 0, ((20, 0, 0, 0), (MOST, 0, 7, 20))),
            (10, 31, ()),
            (0, 0, ((50, 0, 3, 0), (200, 5, 2, 0), (MOST, 40, 1, 0))),
        ]
        for key, price in zip(("calls", "packs", "tokens"), prices, strict=True):
            self.calls += pick.choice([1, 1, 1, -1])
            self.settled += pick.choice([0, 0, 1, 9])
            hold = pick.choice([0, 1, 5])
            known = hold if key == "calls" else pick.choice([0, 0, hold])
            opened = 0 if key == "calls" or known else pick.choice([0, 1])
            held = pick.choice([0, 0, 3, 20])
            each = BudgetAsk(
                *(key, pick.randint(1, 3), MOST, 10**8, hold if known or opened else 0, 0, max(1, self.calls)),
                *(held, pick.choice([0, held // 2]), pick.choice([0, 0, 30, 4000]), self.settled, self.settled // 2),
                *(0, pick.choice([-1, 0, 25]), pick.choice([0] * 9 + [60]), pick.choice([0] * 5 + [50])),
            )
            parts.append(PartAsk(len(budgets), known, opened, *price))
            budgets.append(each)
        purse = PurseAsk(pick.choice([500, 1500, 6000, 2**70]), tuple(parts))
        return made._replace(budgets=tuple(budgets), purse=purse)

    def _counter(self, key: str, limit: int, window: int, life: int, exact: bool) -> CounterAsk:
        pick = self.random
        if pick.random() < 0.03:
            limit, window = limit // 2, window * 2  # the policy was changed
        left, ahead, own, calm, returns = 0, 0, 0, 0, ()
        if not exact:
            left, ahead, own = pick.choice([0, 0, 1, 4]), pick.choice([0, 5, 500]), pick.choice([0, 3])
            calm = pick.choice([0, 1])
            taken = self.taken.setdefault(key, [])
            returns = tuple(taken.pop() for _ in range(min(len(taken), pick.choice([0, 0, 1, 3]))))
        return CounterAsk(key, limit, window, life, left, ahead, own, calm, returns)

    def told(self, made: Ask, answer: Answer) -> None:
        self.seen = answer
        for each, standing in zip(made.counters, answer.counters, strict=True):
            if standing.granted:
                back = self.random.randint(0, standing.granted)
                self.taken.setdefault(each.key, []).append((answer.now_us + standing.longer_us, back))


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


def budget(number: int = 1, hold: int = 1, least: int | None = None, **more: int) -> BudgetAsk:
    return BudgetAsk("q", 1, 10, 10**8, hold, hold if least is None else least, number, seed=0)._replace(**more)


def account(tag: str, node: int, each: BudgetAsk, requests: int = 1) -> Ask:
    return Ask(tag, 0, requests, 0, 0, 1, (), (each._replace(node=node),))


async def test_slices_that_live_short_and_long_are_granted_alike(store: LimitStore) -> None:
    """A page grants nothing ahead in its first second, which the trace above does not outlive."""
    book, caller, tag = Book(), Caller(7), secrets.token_hex(8)
    lives = set()
    for _ in range(50_000):
        made = caller.ask(tag, exact=False)
        if caller.seen is not None:  # each loss would begin a page anew
            made = made._replace(epoch=caller.seen.epoch, seq=caller.seen.seq)
        answer = await store.lease(made)
        assert answer == book.lease(made, answer.now_us)
        caller.told(made, answer)
        for asked, standing in zip(made.counters, answer.counters, strict=True):
            if standing.granted > max(0, answer.passed * made.units - asked.left):
                lives.add((asked.calm, standing.longer_us > 0))
        if len(lives) == 3:
            break
    assert lives == {(0, False), (1, False), (1, True)}


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


async def test_a_budget_that_nobody_knows_asks_for_the_ledgers_total(store: LimitStore) -> None:
    """unkeyed/unkey#403: a counter that is lost never means unused, and nothing else is taken meanwhile."""
    tag = secrets.token_hex(8)
    both = ask(tag, counter(5))._replace(budgets=(budget(seed=-1),))
    answer = await store.lease(both)
    assert (answer.passed, answer.counters[0].granted, answer.budgets[0].known) == (0, 0, 0)
    answer = await store.lease(both._replace(budgets=(budget(seed=9),)))
    assert (answer.passed, answer.counters[0].left, answer.budgets[0].left) == (1, 4, 0)
    assert (await store.lease(account(tag, 2, budget(seed=0)))).passed == 0


async def test_of_many_nodes_at_the_last_unit_of_a_budget_one_passes(store: LimitStore) -> None:
    """BerriAI/litellm#34732, #40095."""
    tag = secrets.token_hex(8)
    await store.lease(account(tag, 99, budget(), requests=9))
    answers = await asyncio.gather(*(store.lease(account(tag, node, budget())) for node in range(1, 13)))
    assert sum(answer.passed for answer in answers) == 1


async def test_what_no_request_could_use_is_in_no_limit_and_no_budget(store: LimitStore) -> None:
    """envoyproxy/ratelimit#185: limits and budgets are one all-or-nothing call."""
    tag = secrets.token_hex(8)
    both = ask(tag, counter(5), requests=4)._replace(budgets=(budget(hold=4),))
    answer = await store.lease(both)
    assert (answer.passed, answer.counters[0].left, answer.budgets[0].left) == (2, 3, 2)
    held = (budget(2, hold=4, held=8),)
    answer = await store.lease(both._replace(requests=1, budgets=held))
    assert (answer.passed, answer.counters[0].left, answer.budgets[0].left) == (0, 3, 2)


async def test_a_hold_is_resized_to_what_is_left(store: LimitStore) -> None:
    """BerriAI/litellm#38647: an estimate above what is left does not lock out."""
    tag = secrets.token_hex(8)
    first = await store.lease(account(tag, 1, budget(hold=7, least=1), requests=3))
    assert (first.passed, first.budgets[0].granted, first.budgets[0].left) == (2, 10, 0)
    assert (await store.lease(account(tag, 2, budget(hold=7, least=1)))).passed == 0


async def test_an_account_that_is_lost_late_or_repeated_counts_once(store: LimitStore) -> None:
    """BerriAI/litellm#35569: settled twice counts once. A grant whose answer was lost comes back with the next."""
    tag = secrets.token_hex(8)
    await store.lease(account(tag, 1, budget(1, hold=3)))
    late = account(tag, 1, budget(2, hold=3, held=3))
    newer = account(tag, 1, budget(3, total=2), requests=0)
    assert (await store.lease(newer)).budgets[0].left == 8  # the hold of 3 ended as 2
    overtaken = await store.lease(late)
    assert (overtaken.passed, overtaken.budgets[0].left) == (0, 8)
    again = await store.lease(account(tag, 1, budget(4, total=2), requests=0))
    assert (again.budgets[0].left, again.budgets[0].settled) == (8, 2)


async def test_the_ledger_corrects_up_and_down_unless_it_is_late(store: LimitStore) -> None:
    tag = secrets.token_hex(8)
    await store.lease(account(tag, 1, budget(1, seed=4)))
    raised = await store.lease(account(tag, 1, budget(2, floor=6), requests=0))
    assert raised.budgets[0].settled == 6
    late = await store.lease(account(tag, 1, budget(3, lower=2, late=1), requests=0))
    assert late.budgets[0].settled == 6
    number = 4
    told = await store.lease(account(tag, 1, budget(number), requests=0))
    while not told.budgets[0].check:
        number += 1
        told = await store.lease(account(tag, 1, budget(number), requests=0))
    stranger = await store.lease(account(tag, 2, budget(1, lower=2), requests=0))
    assert stranger.budgets[0].settled == 6
    lowered = await store.lease(account(tag, 1, budget(number + 1, lower=2), requests=0))
    assert (lowered.budgets[0].settled, lowered.budgets[0].left) == (4, 6)


async def test_what_exceeds_a_budget_is_counted_and_never_refused(store: LimitStore) -> None:
    tag = secrets.token_hex(8)
    over = await store.lease(account(tag, 1, budget(1, least=0, total=25)))
    assert (over.passed, over.budgets[0].granted, over.budgets[0].left) == (1, 0, 10)  # the seed held the 25 already
    over = await store.lease(account(tag, 1, budget(2, least=0, total=40)))
    assert (over.passed, over.budgets[0].settled, over.budgets[0].left) == (1, 15, -5)


async def test_places_of_requests_in_flight_are_held_moved_and_given_back(store: LimitStore) -> None:
    """A concurrency limit (admission.places): nothing is ever settled, and a node says how many it holds."""
    tag = secrets.token_hex(8)
    full = await store.lease(account(tag, 1, budget(1, held=0), requests=12))
    assert (full.passed, full.budgets[0].granted, full.budgets[0].left) == (10, 10, 0)
    refused = await store.lease(account(tag, 2, budget(1)))
    assert (refused.passed, refused.budgets[0].granted) == (0, 0)
    await store.lease(account(tag, 1, budget(2, hold=0, held=7), requests=0))
    answer = await store.lease(account(tag, 2, budget(2), requests=9))
    assert (answer.passed, answer.budgets[0].left) == (3, 0)
    late = await store.lease(account(tag, 1, budget(2, hold=0, held=0), requests=0))
    assert late.budgets[0].left == 0  # it was overtaken
    more = await store.lease(account(tag, 1, budget(3, hold=0, held=9), requests=0))
    assert more.budgets[0].left == -2  # two were lent while the store was away
