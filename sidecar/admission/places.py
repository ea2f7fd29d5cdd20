"""Requests in flight: how many there are, in this process or over all nodes that share the limit.

Where nodes share it, the store counts *places* (core.budgets, with nothing ever settled): a node holds those of its
requests in flight and a few ahead, and says how many with every call. A place that a request leaves stays in hand for
the next one, and goes back when nobody needed it for a second. A node that lives says so every ``_RENEW_NS``, so that
a long call keeps its place. One that is not heard of for NODE_US is forgotten: what it held counts as settled, and the
node that the store tells to compare takes it off, since of places nothing is ever spent. So a crash gives its places
back.
"""

from typing import Final

from sidecar.admission.budgets import SharedPeriod, Want
from sidecar.admission.leases import Page
from sidecar.admission.quotas import FAR, QuotaKey
from sidecar.core.budgets import NODE_US, BudgetAsk, BudgetStanding
from sidecar.core.clock import NS_PER_MS, NS_PER_S, NS_PER_US

_RETIRED: Final = -1
_LAPSE_NS: Final = NODE_US * NS_PER_US * 98 // 100  # 2 % for clocks: the store must not forget this node earlier
_RENEW_NS: Final = 5 * NS_PER_S
_SPARE_NS: Final = NS_PER_S  # a place that nobody needed for so long goes back
# After a refusal nobody asks for so long, twice as long each time: nobody knows when a request will end. What ends here
# needs no asking. Less than the second of Retry-After, so that whoever waits for that is asked for anew.
_AGAIN_NS: Final = 100 * NS_PER_MS
_LONGEST_NS: Final = 800 * NS_PER_MS
_KEEP_US: Final = 2 * NODE_US
_NOBODY: Final = QuotaKey("", False, "", "hour")


class Slots:
    """How many are in flight. A retired one has a limit below zero and so admits nothing. ``lapse_ns``: when what is in
    hand of a shared one must be looked at again (monotonic)."""

    __slots__ = ("_made_ns", "lapse_ns", "limit", "used")

    def __init__(self, limit: int, now: int) -> None:
        self._made_ns = now
        self.lapse_ns = FAR
        self.limit = limit
        self.used = 0

    def idle(self, now: int) -> bool:
        """Whether nothing is in flight; never at the moment it was made, when whoever asked has yet to use it."""
        return not self.used and now > self._made_ns

    def retire(self) -> None:
        self.limit = _RETIRED

    def in_use(self) -> int:
        """In flight by this counter, as far as is known."""
        return self.used

    def left(self) -> int:
        """How many more may be in flight, as far as is known."""
        return max(0, self.limit - self.used)

    def full(self, now: int) -> bool:
        """Whether one more is known to be refused."""
        return self.used >= self.limit

    def lapse(self, now: int) -> None:
        """What is in hand may be somebody else's by now."""
        self.lapse_ns = FAR


class SharedSlots(Slots):
    """To the gate a local one: ``limit`` is how many places this node holds, ``ceiling`` the policy's limit."""

    __slots__ = ("ceiling", "places")

    def __init__(self, name: str, page: Page, ceiling: int, active: list[SharedPeriod], now: int) -> None:
        super().__init__(0, now)
        self.ceiling = ceiling
        self.places = Places(self, name, page, active)

    @property
    def spare(self) -> int:
        """Places in hand without a request."""
        return max(0, self.limit - self.used)

    def idle(self, now: int) -> bool:
        return super().idle(now) and not self.places.busy

    def in_use(self) -> int:
        return max(self.used, self.ceiling - self.places.store_left - self.spare)

    def left(self) -> int:
        return max(0, self.places.store_left) + self.spare

    def full(self, now: int) -> bool:
        return self.used >= self.limit and self.places.refused(now)

    def lapse(self, now: int) -> None:
        """The store may have forgotten this node: places without a request are nobody's any more."""
        self.lapse_ns = FAR
        self.limit = min(self.limit, self.used)

    def lend(self) -> None:
        """Puts a place in hand that the store did not grant; the next call tells it."""
        self.limit = self.used + 1
        self.places.enter()


class Places(SharedPeriod):
    """What ``slots`` says to the store, and what its answers mean."""

    __slots__ = ("_again_ns", "_low", "_low_ns", "_lower", "_refused_ns", "_slots", "_unneeded", "store_left")

    def __init__(self, slots: SharedSlots, name: str, page: Page, active: list[SharedPeriod]) -> None:
        super().__init__(_NOBODY, 0, FAR, page, active)
        self.name = name
        self.known = True  # of a counter that the store does not know nothing is used
        self.leased = True
        self.checking = True  # what is compared is not with a ledger
        self.store_left = slots.ceiling
        self._slots = slots
        self._refused_ns = 0
        self._again_ns = _AGAIN_NS
        self._low = 0  # the least that was spare since ``_low_ns``
        self._low_ns = 0
        self._lower = 0  # places of those that were forgotten, which this node is to take off
        self._unneeded = 0

    @property
    def busy(self) -> bool:
        """Whether the store may count places of this node, or is being asked for some."""
        told = self._slots.limit > 0 or self._slots.used > 0 or self._sent_held > 0
        return told or self.flights > 0 or self._lower > 0

    def refused(self, now: int) -> bool:
        """Whether the store's last refusal still holds."""
        return now < self._refused_ns

    @property
    def tell(self) -> Want:
        return Want(self, self._slots.ceiling, 0, 0)

    def give_up(self) -> None:
        self._slots.limit = self._slots.used

    def idle_after(self, now: int) -> bool:
        if self.busy:
            return False
        self._kept = False
        return True

    def due(self, now: int, late: bool) -> bool:
        slots = self._slots
        spare = slots.spare
        self._low = min(self._low, spare)
        if self.flights:
            return False
        if self._lower:
            return True
        if now - self._low_ns >= _SPARE_NS:
            self._unneeded, self._low, self._low_ns = self._low, spare, now
            if self._unneeded or (not slots.used and not slots.limit and self._sent_held):
                return True
        return now - self._asked_ns >= _RENEW_NS and self.busy

    def request(
        self, want: Want, requests: int, now: int, wall: int, late: bool, floor: int = 0, lower: int = 0
    ) -> BudgetAsk:
        slots = self._slots
        if now >= slots.lapse_ns:
            slots.lapse(now)
        if not requests:
            slots.limit = max(slots.used, slots.limit - self._unneeded)
        self._unneeded = 0
        self._number += 1
        self._asked_ns = self._sent_ns = now
        self._sent_held = max(slots.used, slots.limit)
        return BudgetAsk(
            self.name,
            self._node,
            want.limit,
            _KEEP_US,
            want.hold,
            want.least,
            self._number,
            held=self._sent_held,
            left=slots.spare,
            ahead=1 + slots.used // 2 if want.least else 0,
            seed=0,
            lower=self._lower,
        )

    def answered(self, asked: BudgetAsk, standing: BudgetStanding, passed: int, now: int) -> None:
        slots = self._slots
        # Requests that ended since the call was sent left their places in hand.
        slots.limit = self._sent_held + standing.granted
        slots.lapse_ns = self._sent_ns + _LAPSE_NS
        self._lower = standing.settled if standing.check else 0
        self.store_left = standing.left
        if standing.granted or standing.left > 0:
            self._again_ns = _AGAIN_NS
        self._refused_ns = now + self._again_ns if standing.left <= 0 else 0
        if asked.least and not standing.granted:
            self._again_ns = min(2 * self._again_ns, _LONGEST_NS)
        if now >= slots.lapse_ns:
            slots.lapse(now)
        if self.busy:
            self.enter()
