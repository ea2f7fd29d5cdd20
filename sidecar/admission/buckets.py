"""The bounded table of counters.

Bound: ``max_buckets`` counters (1,000,000), each 0.42 kB when it holds one cell, 0.53 kB with two and 3.8 kB with all
62 (tracemalloc, CPython 3.11, key and table entry included): 0.4 GB when a million callers are met once a window. Cells
are made by admitted requests, at most one each.

Every new counter examines two old ones and drops those that are idle, so the table follows what is alive; when it is
full, eight. If all eight are alive, a new identity of a scope that callers can invent (address, header, key, token
subject) shares one overflow counter per limit, tenant and route: tighter, never looser. It goes on sharing until that
counter is idle, because a counter of its own would forget what was used in the shared one. Counters of tenants and
routes alone are always made; there are no more of them than tenants times routes times limits.

A counter may be dropped while a gate holds it. It is then retired, which makes the gate look it up again before it
counts anything: one limit is always one counter.
"""

from collections import deque
from hashlib import blake2b

from sidecar.admission.budgets import SharedPeriod
from sidecar.admission.leases import Lease, Page
from sidecar.admission.places import SharedSlots
from sidecar.admission.places import Slots as Slots
from sidecar.admission.scopes import Key
from sidecar.core.windows import Window

_SWEEP = 2
_SWEEP_FULL = 8


class Buckets:
    """Counters by key. ``evictions`` and ``overflows`` count since the start, ``overflowed`` the latter by the policy's
    plan and name."""

    __slots__ = ("_pages", "_ring", "_table", "evictions", "max_buckets", "overflowed", "overflows")

    def __init__(self, max_buckets: int) -> None:
        if max_buckets < 1:
            raise ValueError("max_buckets must be at least 1")
        self.max_buckets = max_buckets
        self.evictions = 0
        self.overflows = 0
        self.overflowed: dict[tuple[str, str], int] = {}
        self._table: dict[Key, Window | Slots] = {}  # a Lease is a Window
        self._pages: dict[str, Page] = {}
        self._ring: deque[Key] = deque()  # the clock hand's order; a key is in it exactly once

    def __len__(self) -> int:
        return len(self._table)

    def window(self, key: Key, spare: Key | None, limit: int, window_ns: int, now: int) -> Window:
        """The window of ``key``, made if needed and brought to this limit and length; ``spare`` is the overflow's key,
        None when the identity must have its own."""
        key = self._place(key, spare, now)
        found = self._table.get(key)
        if found is None:
            found = self._table[key] = Window(limit, window_ns, now)
            self._ring.append(key)
        assert isinstance(found, Window)
        found.limit = limit
        if found.window_ns != window_ns:
            found.reshape(window_ns, now)
        return found

    def slots(self, key: Key, spare: Key | None, limit: int, now: int) -> Slots:
        """As ``window``, for requests in flight."""
        key = self._place(key, spare, now)
        found = self._table.get(key)
        if found is None:
            found = self._table[key] = Slots(limit, now)
            self._ring.append(key)
        assert isinstance(found, Slots)
        found.limit = limit
        return found

    def shared_slots(
        self, key: Key, spare: Key | None, limit: int, tenant: str | None, active: list[SharedPeriod], now: int
    ) -> SharedSlots:
        """As ``slots``, of a shared store; ``tenant`` as in ``lease``, ``active`` as in SharedPeriod."""
        key = self._place(key, spare, now)
        found = self._table.get(key)
        if found is None:
            name = f"c:{_shared_name(key)}"
            page = Page(f"l.{name}") if tenant is None else self.page(tenant)
            found = self._table[key] = SharedSlots(name, page, limit, active, now)
            self._ring.append(key)
        assert isinstance(found, SharedSlots)
        found.ceiling = limit
        return found

    def lease(
        self, key: Key, spare: Key | None, limit: int, window_ns: int, exact: bool, tenant: str | None, now: int
    ) -> Lease:
        """As ``window``, of a shared store; ``tenant`` None: the counter is on a page of its own."""
        key = self._place(key, spare, now)
        found = self._table.get(key)
        if found is None:
            name = _shared_name(key)
            page = Page(f"l.{name}") if tenant is None else self.page(tenant)
            found = self._table[key] = Lease(name, page, limit, window_ns, exact, now)
            self._ring.append(key)
        assert isinstance(found, Lease)
        found.change(limit, window_ns, exact, now)
        return found

    def holds(self, key: Key, bucket: Window | Slots) -> bool:
        """Whether ``bucket`` is the counter of ``key``."""
        return self._table.get(key) is bucket

    def page(self, tenant: str) -> Page:
        """What is known of the store's page of this tenant."""
        page = self._pages.get(tenant)
        if page is None:
            # A page that is dropped while leases hold it is made again; then this node is a new one to the store.
            while len(self._pages) >= self.max_buckets:
                del self._pages[next(iter(self._pages))]
            page = self._pages[tenant] = Page(f"t.{tenant}")
        return page

    def _place(self, key: Key, spare: Key | None, now: int) -> Key:
        if key in self._table:
            return key
        if spare is not None:
            shared = self._table.get(spare)
            if shared is not None and not shared.idle(now):
                return self._overflow(spare)
        full = len(self._table) >= self.max_buckets
        self._sweep(now, _SWEEP_FULL if full else _SWEEP)
        if spare is None or len(self._table) < self.max_buckets:
            return key
        return self._overflow(spare)

    def _overflow(self, spare: Key) -> Key:
        self.overflows += 1
        policy = spare[0][1], spare[0][2]
        self.overflowed[policy] = self.overflowed.get(policy, 0) + 1
        return spare

    def _sweep(self, now: int, at_most: int) -> None:
        ring = self._ring
        for _ in range(min(at_most, len(ring))):
            key = ring.popleft()
            bucket = self._table[key]
            if bucket.idle(now):
                bucket.retire()
                del self._table[key]
                self.evictions += 1
            else:
                ring.append(key)


def _shared_name(key: Key) -> str:
    """The counter's name in a shared store: readable, and injective by its digest. The same on every node."""
    prefix = key[0]
    return f"{prefix[1]}:{prefix[2]}:{blake2b(repr(key).encode(), digest_size=16).hexdigest()}"
