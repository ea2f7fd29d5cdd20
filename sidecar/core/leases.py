"""Leases of sliding windows: what a node asks of the store that counts, what it is told, and how the store decides.

A node is granted a slice of what is left of a limit and spends it alone. Why never more than L pass in any W, for any
number of nodes, delays, pauses and crashes:

- a slice of life T is counted when it is granted, at g, and may be spent until T after the node *sent* for it, which
  was before g; so a unit spent at t was counted at a moment in [t - T, t];
- what is spent in an interval of length W was thus counted within one of length W + T;
- the store keeps a window of length W + T over L, so that is at most L;
- a slice that lives for F longer is counted for F longer: as if it had been granted at g + F. What comes after it is
  not forgotten before it.

F is above 0 only while at most half of L is counted, and for a node that has seen no more for a window: who is close
to a limit gets all of it but W/60 and T, and who is far from it asks less often.

An exact limit leases nothing: its units are counted one request at a time in a window of length W, and a request counts
as admitted when the store decided it.

Moments are microseconds of the store's clock, which the store never lets go back. ``Book`` is the reference: the Lua
script of ``sidecar.storage.redis`` decides the same, by ``tests/contract/test_limit_store.py``.
"""

from collections import deque
from typing import NamedTuple

from sidecar.core.budgets import BudgetAsk, BudgetCall, BudgetCounter, BudgetStanding
from sidecar.core.errors import StoreFull
from sidecar.core.purses import PurseAsk, PurseCall
from sidecar.core.windows import CELLS, Window

SHARE = 4  # at most a quarter of what is left is granted ahead: slices shrink to nothing as the limit nears
LEARN_US = 1_000_000  # how long at least a book that is new grants nothing ahead
MIN_LIFE_US = 25_000  # a slice must outlive the journey of its grant
_CALM = 2  # at most one half of a limit is in slices that live longer
_CALM_WINDOW = 4  # the longest life of a slice is a quarter of the window, and at most what a new book waits
NEVER = -1
_SWEEP = 2
_SWEEP_FULL = 64


def life_us(window_us: int) -> int:
    """The life T of a slice: half a cell of the window. One cell would leave a busy node 95.9 % of L, this 97 %."""
    return max(window_us // (2 * CELLS), MIN_LIFE_US)


def longer_us(window_us: int, life_us: int) -> int:
    """How much longer than its life T, ``life_us``, a slice may live that is granted far from the limit: F."""
    return max(0, min(window_us // _CALM_WINDOW, LEARN_US) - life_us) if life_us else 0


def calm(limit: int, used: int) -> bool:
    """Whether so little is used that slices may live longer."""
    return used <= limit // _CALM


def times(window_us: int, life_us: int) -> int:
    """How much larger a slice is that lives longer: what is spent in its life."""
    return 1 + longer_us(window_us, life_us) // life_us


class CounterAsk(NamedTuple):
    """One counter in a call. ``life_us`` 0: exact. ``left``: units that the node still holds. ``ahead``: units it would
    like to hold beyond those needed, for T. ``own``: units granted to it that may count still, for a store that lost
    them. ``calm`` 1: the slice may live longer. ``returns``: unspent units, by the moment they were granted and F.
    """

    key: str
    limit: int
    window_us: int
    life_us: int
    left: int = 0
    ahead: int = 0
    own: int = 0
    calm: int = 0
    returns: tuple[tuple[int, int], ...] = ()


class Ask(NamedTuple):
    """One call: ``requests`` of ``units`` each that all need the ``counters`` and, of their own units, the ``budgets``;
    what some of these cost together has a ceiling in ``purse``. All of them share the hash tag ``tag``.

    ``requests`` 0 asks for nothing but units ahead, if that. ``epoch`` and ``seq``: those of the last answer for this
    tag, 0 before the first; ``new_epoch``: a random number above 0, for a book that must be begun anew.
    """

    tag: str
    units: int
    requests: int
    epoch: int
    seq: int
    new_epoch: int
    counters: tuple[CounterAsk, ...]
    budgets: tuple[BudgetAsk, ...] = ()
    purse: PurseAsk | None = None


class Standing(NamedTuple):
    """How one counter stands after the call.

    ``left`` is negative when a limit was lowered. ``retry_us``: until one more request may pass, 0 for now, NEVER for
    one that weighs more than the limit; ``ask_us``: the same, or earlier when a slice that is out may come back.
    ``reset_us``: until some of what is used is forgotten. ``longer_us``: how much longer than T what was granted lives.
    """

    granted: int
    left: int
    retry_us: int
    ask_us: int
    reset_us: int
    longer_us: int


class Answer(NamedTuple):
    """``passed``: how many of the requests may pass. If none of them may, nothing was granted."""

    now_us: int
    epoch: int
    seq: int
    passed: int
    counters: tuple[Standing, ...]
    budgets: tuple[BudgetStanding, ...] = ()


class _Page:
    """What the store knows of one tag: its epoch, how many calls it has seen, its windows and its budgets."""

    __slots__ = ("budgets", "epoch", "learn_until", "now", "seq", "until", "windows")

    def __init__(self, now: int) -> None:
        self.now = now
        self.epoch = 0
        self.seq = 0
        self.learn_until = 0
        self.until = now  # the last moment at which any node may remember this page
        self.windows: dict[str, tuple[Window, list[int]]] = {}
        self.budgets: dict[str, BudgetCounter] = {}


class Book:
    """The store's side, in memory. ``max_pages`` bounds the tags it holds; idle ones go first, then StoreFull."""

    def __init__(self, max_pages: int = 1_000_000) -> None:
        self._max_pages = max_pages
        self._pages: dict[str, _Page] = {}
        self._ring: deque[str] = deque()

    def lease(self, ask: Ask, now_us: int) -> Answer:
        """Decides one call, all or nothing. StoreFull."""
        page = self._page(ask.tag, now_us)
        now = page.now = max(page.now, now_us)
        lost = _begin(page, ask, now)
        page.seq += 1
        found = [(counter, *_window(page, counter, now)) for counter in ask.counters]
        for counter, window, _ in found:
            if lost:
                if counter.own:
                    window.take_from(now + longer_us(counter.window_us, counter.life_us), counter.own)
            else:
                for at, units in counter.returns:
                    window.give_back(now, at, units)
        budgets = [BudgetCall(each, page.budgets, ask.requests, now) for each in ask.budgets]
        passed = min([ask.requests, *(each.requests for each in budgets)])
        purse = None if ask.purse is None else PurseCall(ask.purse, ask.budgets, budgets, ask.requests)
        if purse is not None:
            passed = min(passed, purse.requests)
        if ask.units:
            for counter, window, _ in found:
                passed = min(passed, max(0, (window.limit - window.used + counter.left) // ask.units))
        all_pass = passed == ask.requests
        ahead = all_pass and now >= page.learn_until
        standings = [_grant(*part, ask.units, passed, ahead, now) for part in found]
        given = {} if purse is None else purse.grants(passed, all_pass)
        stand = [each.grant(passed, all_pass, given.get(place, 0)) for place, each in enumerate(budgets)]
        return Answer(now, page.epoch, page.seq, passed, tuple(standings), tuple(stand))

    def _page(self, tag: str, now: int) -> _Page:
        page = self._pages.get(tag)
        if page is None or now >= page.until:
            if page is None:
                self._sweep(now)
                self._ring.append(tag)
            page = self._pages[tag] = _Page(now)
        return page

    def _sweep(self, now: int) -> None:
        full = len(self._pages) >= self._max_pages
        for _ in range(min(_SWEEP_FULL if full else _SWEEP, len(self._ring))):
            tag = self._ring.popleft()
            if now >= self._pages[tag].until:
                del self._pages[tag]
            else:
                self._ring.append(tag)
        if len(self._pages) >= self._max_pages:
            raise StoreFull(f"the book of limits holds {self._max_pages} pages, all in use")


def _begin(page: _Page, ask: Ask, now: int) -> bool:
    """Begins or goes on with a page; whether the store has lost what this node was granted."""
    known = page.epoch != 0
    behind = known and ask.epoch == page.epoch and ask.seq > page.seq  # an older copy of the data took over
    if not known or behind:
        page.epoch = ask.new_epoch
        page.learn_until = now + max([LEARN_US, *(counter.life_us for counter in ask.counters)])
    kept = max((counter.window_us + counter.life_us for counter in ask.counters), default=0)
    page.until = max(page.until, now + 2 * page_us(kept), *(now + each.keep_us for each in ask.budgets))
    return ask.epoch not in (0, page.epoch) or behind


def page_us(kept_us: int) -> int:
    """How long a node remembers what it was granted (2 % for clocks); the store remembers a page twice as long."""
    return kept_us + kept_us // 50 + LEARN_US


def _window(page: _Page, counter: CounterAsk, now: int) -> tuple[Window, list[int]]:
    kept = counter.window_us + counter.life_us
    found = page.windows.get(counter.key)
    if found is None:
        found = page.windows[counter.key] = (Window(counter.limit, kept, now), [0])
    window = found[0]
    window.limit = counter.limit
    if window.window_ns != kept:
        window.reshape(kept, now)
    window.expire(now)
    return found


def _grant(
    counter: CounterAsk, window: Window, lent: list[int], units: int, passed: int, ahead: bool, now: int
) -> Standing:
    granted, longer = max(0, passed * units - counter.left), 0
    if ahead and counter.life_us:
        share = max(0, (window.limit - window.used - granted) // SHARE)
        rest = max(0, counter.left - passed * units)
        extra = min(max(0, counter.ahead - rest), share)
        if counter.calm:
            more = min(max(0, counter.ahead * times(counter.window_us, counter.life_us) - rest), share)
            if more and calm(window.limit, window.used + granted + more):
                extra, longer = more, longer_us(counter.window_us, counter.life_us)
        if extra:
            lent[0] = max(lent[0], now + 2 * (counter.life_us + longer))  # by then what is not spent has come back
        granted += extra
    if granted:
        window.take_from(now + longer, granted)
    # What the node holds after the call serves its next request too.
    at = window.retry_at_ns(now, max(0, units - max(0, counter.left + granted - passed * units)))
    retry = NEVER if at is None or units > window.limit else at - now
    soon = lent[0] - now
    ask_us = soon if retry > soon > 0 else retry
    return Standing(granted, window.limit - window.used, retry, ask_us, window.reset_ns(now), longer)
