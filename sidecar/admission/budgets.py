"""The node's side of a budget that nodes share: what is in hand, what to say of it, what an answer means. Pure.

Every amount is in one of three places: *settled* (``_total``, and how much of it the store was told), held for requests
under way (``_flying``), or in ``room``, which requests may take without asking. ``room`` goes below zero when requests
used more than was held for them; the next call tells the store, which counts it whatever the limit.
"""

import random
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from sidecar.admission.leases import Page, next_ahead
from sidecar.admission.quotas import FAR, Period, QuotaKey
from sidecar.core.budgets import FIRST_CHECK_US, NODE_US, BudgetAsk, BudgetStanding
from sidecar.core.clock import NS_PER_S, NS_PER_US
from sidecar.core.purses import PurseAsk

_LAPSE_NS: Final = NODE_US * NS_PER_US * 98 // 100  # 2 % for clocks: the store must not forget this node earlier
_RENEW_NS: Final = 5 * NS_PER_S  # a store that lost its data knows by then what is held
_TELL_NS: Final = NS_PER_S  # what is settled, or no longer wanted, is told after at most so long
_SLICE_NS: Final = NS_PER_S  # units in hand are for so long
_KEEP_US: Final = 3_600_000_000  # a call may end so long after its period


class Want(NamedTuple):
    """What each of some requests needs of a budget. ``open`` 1: in a purse, they may use more."""

    period: "SharedPeriod"
    limit: int
    hold: int
    least: int
    open: int = 0


class Purse(Protocol):
    """What budgets cost together (admission.purses)."""

    def members(self, wants: Sequence[Want]) -> tuple[Want, ...]:
        """The wants, and those of the other budgets whose cost counts."""
        ...

    def ask(self, wants: Sequence[Want]) -> PurseAsk:
        """What to say of it in a call with ``members``."""
        ...


class SharedPeriod(Period):
    """A period whose counter stands in a shared store, on ``page`` as ``name``. ``active``: those that have something
    to tell, of all counters; this one puts itself there."""

    __slots__ = (
        "_ahead",
        "_asked_ns",
        "_closed_limit",
        "_closed_ns",
        "_flying",
        "_kept",
        "_last",
        "_look_ns",
        "_mark",
        "_node",
        "_number",
        "_seed",
        "_sent_held",
        "_sent_ns",
        "_sent_total",
        "_store_left",
        "_told",
        "_total",
        "_waiting",
        "blind_used",
        "check_due",
        "checking",
        "close_ns",
        "compared",
        "flights",
        "key",
        "known",
        "leased",
        "limit",
        "name",
        "page",
        "purse",
        "seeded",
        "settled",
        "unread_ns",
    )

    def __init__(self, key: QuotaKey, start_ns: int, end_ns: int, page: Page, active: "list[SharedPeriod]") -> None:
        super().__init__(start_ns, end_ns)
        self.key = key
        self.page = page
        self.close_ns = end_ns  # the period's end
        self.purse: Purse | None = None  # what it costs, with others, has a ceiling
        # By its bounds, not by its words: whoever counts the same time counts together.
        self.name = f"q:{key.meter}:{start_ns // NS_PER_S}:{end_ns // NS_PER_S}:{'test' if key.sandbox else 'live'}"
        self.known = False  # the store has answered of this counter
        self.leased = False  # a quota that refuses goes by it
        self.limit = 0
        self.settled = 0  # in the store, at the last answer
        self.seeded = False  # by this node, and not compared since
        self.unread_ns = 0  # until then the ledger is not asked again: it failed
        self.blind_used = 0
        self.flights = 0
        self.check_due = False  # it is this node's turn to compare with the ledger
        self.checking = False  # it does
        self.compared: tuple[int, int, int] | None = None  # the ledger's total, then what was settled, look again at
        self.room = 0
        self.dry = False
        self._waiting: list[SharedPeriod] = active
        self._kept = False  # in ``active``
        self._total = 0
        self._told = 0
        self._flying = 0
        self._store_left = 0
        self._closed_ns = 0
        self._closed_limit = -1
        # Of this object, not of the process: one that was dropped and made again begins its accounts anew.
        self._node = random.getrandbits(48) + 1
        self._number = 0
        self._ahead = 0
        self._last = 0
        self._mark = 0  # total + flying at the last call
        self._asked_ns = 0
        self._seed = -1
        self._look_ns = 0  # when to call again, so that what was seeded is soon compared
        self._sent_ns = 0
        self._sent_held = 0
        self._sent_total = 0

    @property
    def needed(self) -> bool:
        return self.flights > 0 or self._kept or self._total != self._told or self._held > 0

    @property
    def total(self) -> int:
        """What this node has settled."""
        return self._total

    @property
    def _held(self) -> int:
        return self._flying + max(0, self.room) if self.leased else 0

    def hold(self, amount: int) -> None:
        self.used += amount
        self.room -= amount
        self._flying += amount
        if not self._kept:
            self.enter()

    def settle(self, amount: int, value: int) -> None:
        self.used += value - amount
        self.room -= value - amount
        self._flying -= amount
        self._total += value
        if not self._kept:
            self.enter()

    def enter(self) -> None:
        """Puts itself among those that have something to tell."""
        if not self._kept:
            self._kept = True
            self._waiting.append(self)

    def lapse(self, now: int) -> None:
        """The store may have forgotten this node by now: what is in hand is nobody's any more."""
        self.room = min(0, self.room)
        self.lapse_ns = FAR

    def low(self, now: int) -> bool:
        """Whether it is time to fetch the next slice: half of this one is spent, no call is out, and there is more."""
        ahead = self._ahead
        return ahead > 0 and 2 * self.room <= ahead and not self.flights and self._store_left > 0 and self.leased

    def closed(self, now: int, limit: int, least: int) -> bool:
        """Whether the store's last word refuses a request that needs at least ``least`` under this limit."""
        left = self._store_left + max(0, self.room)  # beyond the limit what is in hand is of no use here: it goes back
        return now < self._closed_ns and limit == self._closed_limit and least > left

    def lend(self, amount: int) -> None:
        """Puts ``amount`` in hand that the store did not grant; it is told of it with the next call."""
        self.blind_used += amount
        self.room = max(amount, self.room)
        self.dry = True

    def give_up(self) -> None:
        """Lets all that is in hand go back with the next call."""
        self.room = min(0, self.room)

    @property
    def tell(self) -> Want:
        """For a call that only tells."""
        return Want(self, self.limit, 0, 0)

    def idle_after(self, now: int) -> bool:
        """Whether nothing is left to tell; then it leaves ``active``."""
        if self._total != self._told or self._held or self.flights or self.compared is not None:
            return False
        if self._look_ns or not self.known:
            return False
        self._kept = False
        return True

    def due(self, now: int, late: bool) -> bool:
        """Whether a call should be made now that no request waits for."""
        if self.flights:
            return False
        since = now - self._asked_ns
        if self._look_ns and now >= self._look_ns:
            self._look_ns = 0
            return True
        if self._total != self._told or not self.known or (self.room > 0 and self._spent() <= 0):
            return since >= _TELL_NS
        return since >= _RENEW_NS and (self._held > 0 or late)

    def seed(self, ledger: int, total_before: int) -> None:
        """The ledger's total, read after this node had settled ``total_before``."""
        self._seed = ledger + self._total - total_before

    def request(
        self, want: Want, requests: int, now: int, wall: int, late: bool, floor: int = 0, lower: int = 0
    ) -> BudgetAsk:
        """What to say in a call that is sent now. ``late``: the ledger does not take this node's usage at the moment;
        ``floor`` and ``lower`` as in BudgetAsk."""
        if now >= self.lapse_ns:
            self.lapse(now)
        ahead = self._demand(now)
        self._number += 1
        self._asked_ns = now
        limit = self.limit = want.limit
        self.leased = self.leased or want.least > 0
        if not requests and self.room > 0:
            self.room = min(self.room, 2 * ahead)  # the rest goes back with this call
        self._sent_ns, self._sent_held, self._sent_total = now, self._held, self._total
        seed, self._seed = self._seed, -1
        keep_us = max(0, self.close_ns - wall) // NS_PER_US + _KEEP_US
        left = max(0, self.room) if self.leased else 0
        wish = ahead if want.least else 0
        account = self._number, self._sent_held, left, wish, self._total, self._told, int(late)
        return BudgetAsk(self.name, self._node, limit, keep_us, want.hold, want.least, *account, seed, floor, lower)

    def answered(self, asked: BudgetAsk, standing: BudgetStanding, passed: int, now: int) -> None:
        """Takes what the store says to ``asked``, the last request."""
        if not standing.known:
            self.known = False
            return
        if asked.ahead and standing.granted <= max(0, passed * asked.hold - asked.left):
            self._ahead = 0  # there is no slice to be had now; the next call in need asks again
        if asked.seed >= 0:
            self.seeded = asked.seed > 0  # where nothing had been used, nothing can be lost
            self._look_ns = now + FIRST_CHECK_US * NS_PER_US
        self.known = True
        self._told = self._sent_total
        # All that the store counts as out with this node, less what has been taken from it since.
        self.room = self._sent_held + standing.granted - self._flying - (self._total - self._sent_total)
        self.used = self.limit - standing.left - self.room
        self.settled = standing.settled
        self.lapse_ns = self._sent_ns + _LAPSE_NS if self.leased else FAR
        self.dry = standing.left <= 0
        self._store_left = standing.left
        self._closed_limit = self.limit
        self._closed_ns = now + standing.ask_us * NS_PER_US
        if now >= self.lapse_ns:
            self.lapse(now)

    def forget(self) -> None:
        """The period is over and its counter gone: the ledger alone knows of it now."""
        self._told = self._total
        self.known = True
        self.room = -self._flying

    def _spent(self) -> int:
        return self._total + self._flying - self._mark

    def _demand(self, now: int) -> int:
        """Units to hold ahead: what is spent in a second at the rate since the last call."""
        took = max(1, now - self._asked_ns)
        rate = max(0, self._spent()) * _SLICE_NS // took if self._asked_ns else 0
        self._last = next_ahead(self._last, rate, took, _SLICE_NS)
        self._ahead = self._last
        self._mark = self._total + self._flying
        return self._ahead
