"""Budgets that nodes share: so much of something per period, counted up and never forgotten within it. A quota is one.

What is used of a budget is *settled* (known for good) or *out*: held by a node, for requests under way and ahead of
need. A request passes while ``settled + out`` leaves room, so whatever is held is counted before it can be used, and no
number of nodes exceeds the limit by amounts that are known beforehand.

Every call of a node is an account, not a change, so that a call that is lost, late or repeated does no harm:

- ``held`` is all that it holds now; the store replaces what it knew. A grant whose answer was lost comes back that way.
- ``total`` is all that it has settled; the store adds what is new of it. Settling twice counts once.
- ``number`` grows with each call; one that was overtaken changes nothing and gets nothing. A node has one call out at a
  time for a budget.
- A node that is not heard of for NODE_US is forgotten. What was out with it counts as settled until the ledger, asked
  at once, says what of it was spent: a crash locks nobody out, and what the node had used is never given twice.

The ledger is the truth. A store without the counter asks for the ledger's total (``known`` 0, then ``seed``). And every
CHECK_US one node compares: what the ledger had a while ago must be settled by now (``floor``), and what was settled a
while ago must be in the ledger by now (``lower``, unless a node says that its usage is ``late`` there, or one that
holds something is not heard of and may be dead with a journal that is not shipped yet; and only of the node that was
told last to compare). A node that knows the truth without a ledger (``seed`` is always given: places) waits for nobody.
"""

from typing import NamedTuple

SHARE = 4  # at most a quarter of what is left is granted ahead: slices shrink to nothing as the limit nears
LEARN_US = 1_000_000  # how long a counter that is new grants nothing ahead
NODE_US = 30_000_000
FRESH_US = 5_900_000  # a node that holds something and lives is heard of at least every 5.1 s
CHECK_US = 60_000_000
FIRST_CHECK_US = 1_000_000  # after the counter was made: it may stand for one that was lost
AGAIN_US = 1_000_000  # when a node that was refused may ask again: something may have come back
MAX_NODES = 256  # per counter; for one more, the one that would be forgotten first is


class BudgetAsk(NamedTuple):
    """One budget in a call. Each request holds ``hold``, or less down to ``least``, when no more is left; ``least`` 0:
    counted, never refused. ``node``: a random number above 0 for who gives account. ``keep_us``: how long from now the
    counter must be known. ``left``: of ``held``, what no request has yet. ``told``: of ``total``, what an answered call
    has brought. ``seed``: the ledger's total with all that this node has settled, -1 for none.
    """

    key: str
    node: int
    limit: int
    keep_us: int
    hold: int
    least: int
    number: int
    held: int = 0
    left: int = 0
    ahead: int = 0
    total: int = 0
    told: int = 0
    late: int = 0
    seed: int = -1
    floor: int = 0
    lower: int = 0


class BudgetStanding(NamedTuple):
    """How one budget stands after the call. ``known`` 0: the store needs a seed, nothing else was done. ``left`` is
    negative beyond the limit. ``ask_us``: when a node that was refused should ask again. ``check`` 1: it is this node's
    turn to compare with the ledger."""

    known: int
    granted: int
    left: int
    settled: int
    ask_us: int
    check: int


class BudgetCounter:
    """One counter in the store's memory."""

    __slots__ = ("check_at", "checker", "learn_until", "nodes", "out", "settled", "until")

    def __init__(self, settled: int, now: int) -> None:
        self.settled = settled
        self.out = 0
        self.until = now
        self.learn_until = now + LEARN_US
        self.check_at = now + FIRST_CHECK_US
        self.checker = 0  # the node whose turn it is to compare
        self.nodes: dict[int, list[int]] = {}  # [number, total, out, until, late]

    def told(self, ask: BudgetAsk, now: int) -> bool:
        """Takes a node's account. False for a call that was overtaken."""
        for name in [name for name, known in self.nodes.items() if known[3] <= now]:
            self._forget(name, now)
        known = self.nodes.get(ask.node)
        if known is None:
            known = self._admit(ask.node, ask.told, now)
        if ask.number <= known[0]:
            return False
        self.settled += ask.total - known[1]
        self.out += ask.held - known[2]
        known[:] = [ask.number, ask.total, ask.held, now + NODE_US, ask.late]
        self.settled = max(self.settled, ask.floor)
        if ask.lower and self.checker == ask.node and (ask.seed >= 0 or not self._behind(now)):
            self.settled = max(0, self.settled - ask.lower)
            self.checker = 0
        self.until = now + ask.keep_us
        return True

    def _behind(self, now: int) -> bool:
        """Whether the ledger may lack what some node has settled."""
        return any(
            late or (held > 0 and until - NODE_US + FRESH_US <= now) for _, _, held, until, late in self.nodes.values()
        )

    def _forget(self, node: int, now: int) -> None:
        held = self.nodes.pop(node)[2]
        if held:
            self.out -= held
            self.settled += held
            self.check_at = min(self.check_at, now)

    def _admit(self, node: int, told: int, now: int) -> list[int]:
        if len(self.nodes) >= MAX_NODES:
            self._forget(min(self.nodes, key=lambda name: self.nodes[name][3]), now)
        known = self.nodes[node] = [0, told, 0, now + NODE_US, 0]
        return known


class BudgetCall:
    """One budget in one call, on the store's side. ``requests``: how many may pass by it, of those that ask."""

    __slots__ = ("_ask", "_counter", "_now", "fresh", "requests")

    def __init__(self, ask: BudgetAsk, counters: dict[str, BudgetCounter], requests: int, now: int) -> None:
        self._ask = ask
        self._now = now
        counter = _find(ask, counters, now)
        self._counter = counter
        self.fresh = counter is not None and counter.told(ask, now)
        self.requests = requests
        if ask.least:
            room = self._room(counter) + ask.left if counter is not None and self.fresh else 0
            if room < ask.least:
                self.requests = 0
            elif ask.hold:
                self.requests = min(requests, 1 + (room - ask.least) // ask.hold)

    @property
    def total(self) -> int:
        """Settled and out."""
        return 0 if self._counter is None else self._counter.settled + self._counter.out

    @property
    def grants_ahead(self) -> bool:
        """Whether the counter is old enough for it."""
        return self._counter is not None and self._now >= self._counter.learn_until

    def grant(self, passed: int, ahead: bool, given: int = 0) -> BudgetStanding:
        """What the node gets when ``passed`` requests do; ``ahead``: all that asked. ``given``: by a purse
        (core.purses), for a budget without ``least``."""
        ask, counter, now = self._ask, self._counter, self._now
        if counter is None:
            return BudgetStanding(0, 0, 0, 0, AGAIN_US, 0)
        known = counter.nodes[ask.node]
        granted = 0
        if ask.least and self.fresh:
            room = self._room(counter)
            needed = passed * ask.hold if ask.hold else min(passed, 1) * ask.least
            granted = max(0, min(needed, room + ask.left) - ask.left)
            if ahead and now >= counter.learn_until:
                granted += max(0, min(ask.ahead, (room - granted) // SHARE))
        elif self.fresh:
            granted = given
        known[2] += granted
        counter.out += granted
        check = int(self.fresh and now >= counter.check_at)
        if check:
            counter.check_at = now + CHECK_US
            counter.checker = ask.node
        others = counter.out - known[2]
        again = AGAIN_US if others else max(AGAIN_US, counter.check_at - now)
        return BudgetStanding(1, granted, self._room(counter), counter.settled, again, check)

    def _room(self, counter: BudgetCounter) -> int:
        return self._ask.limit - counter.settled - counter.out


def _find(ask: BudgetAsk, counters: dict[str, BudgetCounter], now: int) -> BudgetCounter | None:
    found = counters.get(ask.key)
    if found is None or now >= found.until:
        if ask.seed < 0:
            return None
        for key in [key for key, each in counters.items() if now >= each.until]:
            del counters[key]
        found = counters[ask.key] = BudgetCounter(ask.seed, now)
        found.nodes[ask.node] = [0, ask.total, 0, now + NODE_US, 0]
    return found
