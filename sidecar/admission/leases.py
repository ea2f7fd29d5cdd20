"""The node's side of a leased limit: what is in hand, what to ask for, what an answer means. Pure; time is an argument.

To the gate a lease is a window whose ``limit`` is what was granted and whose ``used`` is what was spent of it. Slices
are spent oldest first and end T after they were sent for; what is then unspent goes back with the next call.

Bounds: ``_MAX_SLICES`` slices in hand and ``_MAX_RETURNS`` waiting to go back per lease; beyond that, the oldest are
counted as spent, which is tighter and never looser.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from sidecar.core.clock import NS_PER_MS, NS_PER_US
from sidecar.core.leases import NEVER, Answer, Ask, CounterAsk, Standing, calm, life_us, page_us, times
from sidecar.core.windows import Window

FAR_NS: Final = 2**62
_MAX_SLICES: Final = 8
_MAX_RETURNS: Final = 16
_EXACT_LIFE_NS: Final = 250 * NS_PER_MS  # an exact unit that nobody waits for any more is not kept longer
_LENT_NS: Final = 250 * NS_PER_MS
_FIRST_AHEAD: Final = 4
_GROWTH: Final = 4  # a slice is at most four times the last one


def next_ahead(last: int, rate: int, took: int, fades: int) -> int:
    """Units to hold ahead after ``last``, by the ``rate`` at which units were spent in the time ``took``.

    What was needed before fades as in the time ``fades``, not at once: of two calls that follow each other, the second
    has seen next to nothing spent."""
    kept = last * (fades - took) // fades if took < fades else 0
    return min(max(rate, kept), _GROWTH * max(last, _FIRST_AHEAD))


class Page:
    """What a node knows of the store's page for one hash tag. ``lock``: a call with budgets is out, one at a time."""

    __slots__ = ("epoch", "lock", "seq", "tag")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.lock: asyncio.Lock | None = None
        self.epoch = 0
        self.seq = 0


class Lease(Window):
    """One counter of a shared store. ``ceiling`` is the policy's limit; ``window_ns`` its window; ``exact``: nothing
    is held ahead. ``share`` counts what is decided without the store."""

    __slots__ = (
        "_asked_ns",
        "_calm_ns",
        "_head",
        "_last",
        "_slices",
        "_spent",
        "ahead",
        "ceiling",
        "closed_ns",
        "closed_units",
        "exact",
        "flights",
        "key",
        "life_ns",
        "memory",
        "page",
        "reset_at_ns",
        "retry_ns",
        "returns",
        "share",
        "store_left",
    )

    def __init__(self, key: str, page: Page, ceiling: int, window_ns: int, exact: bool, now: int) -> None:
        super().__init__(0, window_ns, now)
        self.next_ns = FAR_NS
        self.key = key
        self.page = page
        self.ceiling = ceiling
        self.exact = exact
        self.life_ns = 0 if exact else life_us(window_ns // NS_PER_US) * NS_PER_US
        # What this node was granted and may count still: the grant is older than its arrival, so this counts longer.
        self.memory = Window(FAR_NS, page_us((window_ns + self.life_ns) // NS_PER_US) * NS_PER_US, now)
        self.share: Window | None = None
        self.returns: list[tuple[int, int]] = []
        self.store_left = ceiling
        self.reset_at_ns = now
        self.closed_ns = now  # until then a request of ``closed_units`` or more is refused without asking
        self.closed_units = 0
        self.retry_ns = now  # when such a request may pass; FAR_NS: never
        self.flights = 0
        self._calm_ns = now + window_ns  # from then on slices may live longer
        self._slices: list[list[int]] = []  # [ends, counted from (store), units, came at], by their ends
        self._head = 0  # units left of the first slice
        self.ahead = 0
        self._last = 0
        self._spent = 0
        self._asked_ns = now

    @property
    def left(self) -> int:
        """Units in hand."""
        return self.limit - self.used

    def expire(self, now: int) -> bool:
        """Ends slices whose life is over; what is unspent waits to go back. False when this lease was retired."""
        if self.limit < 0:
            return False
        slices = self._slices
        while slices and slices[0][0] <= now:
            _, at, units, came = slices.pop(0)
            self.limit -= units
            self.used -= units - self._head
            self._drop(now, at, self._head, came)
            self._head = slices[0][2] if slices else 0
        self.next_ns = slices[0][0] if slices else FAR_NS
        return True

    def take(self, now: int, n: int) -> None:
        """Spends ``n`` units in hand; the caller has checked that they are."""
        self.used += n
        self._spent += n
        while n > self._head:
            n -= self._head
            slices = self._slices
            spent = slices.pop(0)
            self.limit -= spent[2]
            self.used -= spent[2]
            self._head = slices[0][2]
            self.next_ns = slices[0][0]
        self._head -= n

    def low(self, now: int) -> bool:
        """Whether it is time to fetch the next slice: half of this one is spent, no call is out, and there is more."""
        ahead = self.ahead
        return ahead > 0 and 2 * (self.limit - self.used) <= ahead and not self.flights and now >= self.closed_ns

    def lend(self, now: int, n: int) -> None:
        """Puts ``n`` units in hand that the store did not grant; whoever decided so has counted it."""
        self.ahead = 0
        self.granted(Standing(n, self.store_left, 0, 0, 0, 0), 0, n, now + _LENT_NS, now)

    @property
    def out(self) -> bool:
        """Whether there is anything that may have to go back."""
        return bool(self._slices or self.returns)

    def closed(self, now: int, units: int) -> bool:
        """Whether the store's last refusal still holds for a request of ``units``."""
        return now < self.closed_ns and units >= self.closed_units

    def request(self, now: int, ahead: bool) -> CounterAsk:
        """What to say of this counter in a call that is sent now; ``ahead``: whether it may bring a slice."""
        self.expire(now)
        going, self.returns = tuple(self.returns), []
        return CounterAsk(
            self.key,
            self.ceiling,
            self.window_ns // NS_PER_US,
            self.life_ns // NS_PER_US,
            self.limit - self.used,
            self._demand(now) if ahead else 0,
            self.memory.used_at(now),
            int(now >= self._calm_ns),
            going,
        )

    def granted(self, standing: Standing, from_us: int, units: int, ends: int, now: int) -> None:
        """Takes what the store answered to a call for requests of ``units``: a slice that counts from ``from_us`` on
        and may be spent until ``ends``."""
        self.store_left = max(0, standing.left)
        self.reset_at_ns = now + standing.reset_us * NS_PER_US
        if standing.retry_us:
            # From the answer's arrival: the store's own moment is before that, never after.
            self.closed_units = units
            self.closed_ns = FAR_NS if standing.ask_us == NEVER else now + standing.ask_us * NS_PER_US
            self.retry_ns = FAR_NS if standing.retry_us == NEVER else now + standing.retry_us * NS_PER_US
        else:
            self.closed_ns = self.retry_ns = now
        if not calm(self.ceiling, self.ceiling - standing.left):
            # Who is refused until then does not ask, and has seen nothing of it.
            closed_ns = self.closed_ns if self.closed_ns < FAR_NS else now
            self._calm_ns = max(now, closed_ns) + self.window_ns
        if not standing.granted:
            return
        self.memory.take(now, standing.granted)
        if ends <= now:
            self._drop(now, from_us, standing.granted, now)
            return
        self._end_by(ends)
        if len(self._slices) == _MAX_SLICES:
            self._forget_first()
        self._slices.append([ends, from_us, standing.granted, now])
        self.limit += standing.granted
        if len(self._slices) == 1:
            self._head = standing.granted
            self.next_ns = ends

    def give_up(self, now: int) -> None:
        """Ends every slice now, so that all that is unspent can go back."""
        for piece in self._slices:
            piece[0] = now
        self.expire(now)

    def change(self, ceiling: int, window_ns: int, exact: bool, now: int) -> None:
        """Another limit or window: the store is asked again before anything is refused; what is in hand goes back."""
        if (ceiling, window_ns, exact) == (self.ceiling, self.window_ns, self.exact):
            return
        self.give_up(now)
        self.ceiling = ceiling
        self.exact = exact
        self.window_ns = window_ns
        self.life_ns = 0 if exact else life_us(window_ns // NS_PER_US) * NS_PER_US
        self.memory.reshape(page_us((window_ns + self.life_ns) // NS_PER_US) * NS_PER_US, now)
        self.closed_ns = now
        self._calm_ns = now + window_ns
        self.share = None

    def used_at(self, now: int) -> int:
        """Units of the limit that are used, on all nodes, as far as this one knows."""
        return max(0, self.ceiling - self.store_left - (self.limit - self.used))

    def retry_at_ns(self, now: int, n: int) -> int | None:
        """As Window: what the store said last, for a request that was refused."""
        if n <= self.limit - self.used or not self.closed(now, n):
            return now
        return None if self.retry_ns >= FAR_NS else self.retry_ns

    def reset_ns(self, now: int) -> int:
        """As Window, as the store said last."""
        return max(0, self.reset_at_ns - now)

    def idle(self, now: int) -> bool:
        """Whether nothing is in hand, on its way or remembered."""
        share = self.share is None or self.share.idle(now)
        return not self.flights and not self._slices and not self.returns and self.memory.idle(now) and share

    def _demand(self, now: int) -> int:
        """Units to hold ahead: what is spent in a life at the rate since the last call, so that there is half a life
        for the next slice to come. ``take`` counts, so a node that nobody calls asks for nothing."""
        took = max(1, now - self._asked_ns)
        rate = self._spent * self.life_ns // took
        # Near the limit what is not spent is missed elsewhere: there only what was spent since is a reason for more.
        fades = self.life_ns if calm(self.ceiling, self.ceiling - self.store_left) else 0
        self._last = min(next_ahead(self._last, rate, took, fades), self.ceiling)
        self.ahead = 0 if self.exact else self._last
        self._spent = 0
        self._asked_ns = now
        return self.ahead

    def _drop(self, now: int, at: int, units: int, came: int) -> None:
        if not units:
            return
        if len(self.returns) == _MAX_RETURNS:
            self.returns.pop(0)
        self.returns.append((at, units))
        self.memory.give_back(now, came, units)

    def _end_by(self, ends: int) -> None:
        """Slices are spent as they came, so their ends are in that order too: one that lives longer ends with the
        shorter one that comes after it, since the limit is near."""
        for piece in self._slices:
            piece[0] = min(piece[0], ends)
        if self._slices:
            self.next_ns = self._slices[0][0]

    def _forget_first(self) -> None:
        gone = self._slices.pop(0)
        self.limit -= gone[2]
        self.used -= gone[2] - self._head
        self._head = self._slices[0][2]
        self.next_ns = self._slices[0][0]


def ask_for(page: Page, leases: Sequence[Lease], units: int, requests: int, now: int) -> Ask:
    """The call for ``requests`` of ``units`` that all need these leases, which are of this page."""
    for lease in leases:
        lease.flights += 1
    new_epoch = random.getrandbits(48) + 1
    counters = tuple(lease.request(now, units > 0) for lease in leases)
    return Ask(page.tag, units, requests, page.epoch, page.seq, new_epoch, counters)


def answered(page: Page, leases: Sequence[Lease], ask: Ask, answer: Answer, sent_ns: int, now: int) -> None:
    """Takes the answer to ``ask``, sent at ``sent_ns`` and here ``now``."""
    if answer.epoch != page.epoch:
        page.epoch, page.seq = answer.epoch, answer.seq
    elif answer.seq > page.seq:  # answers of calls that were out together may come in any order
        page.seq = answer.seq
    for lease, asked, standing in zip(leases, ask.counters, answer.counters, strict=True):
        lease.flights -= 1
        rest = asked.left - answer.passed * ask.units  # negative: what was granted for the requests themselves
        if standing.longer_us:
            lease.ahead = asked.ahead * times(asked.window_us, asked.life_us)
        elif standing.granted <= max(0, -rest) and asked.ahead > rest:
            lease.ahead = 0  # there is no slice to be had now; the next call in need asks again
        # By what was asked: the limit may be another one by now.
        ends = sent_ns + ((asked.life_us + standing.longer_us) * NS_PER_US or _EXACT_LIFE_NS)
        lease.granted(standing, answer.now_us + standing.longer_us, ask.units, ends, now)
        if asked.limit != lease.ceiling or asked.window_us != lease.window_ns // NS_PER_US:
            lease.closed_ns = now  # another limit refused, or the same one by another window


def unanswered(leases: Sequence[Lease]) -> None:
    """The call failed, or nobody knows. What it returned is not sent again: it may have arrived."""
    for lease in leases:
        lease.flights -= 1
