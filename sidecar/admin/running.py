"""The margin of the running month and of the running billing periods for the metrics: reckoned in the background, shown
by the scrape, which asks nobody.

With 100,000 tenants one reckoning reads some hundred pages of sums, and a few questions for each tenant whose billing
periods are not the calendar's months; it takes at most a part of ``1 / (_REST + 1)`` of
the time and never comes more often than every ``_PERIOD_S``.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from sidecar.admin import margins
from sidecar.admin.accounts import MarginBooks, tenant_accounts
from sidecar.admin.periods import Stretch
from sidecar.admin.shapes import time_text
from sidecar.admin.sources import MarginReading
from sidecar.admin.spans import has_minutes, month_span, whole_hours
from sidecar.core.clock import NS_PER_S, NS_PER_US, Clock
from sidecar.core.errors import StoreError
from sidecar.core.policy import Snapshot
from sidecar.core.ports import Ledger
from sidecar.metering import OTHER, Account

MAX_SERIES = 2_000  # combinations of plan and route; what comes beyond counts as OTHER
_PERIOD_S = 60.0
_REST = 20
_log = logging.getLogger(__name__)


class RunningMargin:
    """``run`` is a background task; ``read`` gives what it last found, and how old that is."""

    def __init__(self, store: MarginBooks, ledger: Ledger, snapshot: Callable[[], Snapshot], clock: Clock) -> None:
        self._store = store
        self._ledger = ledger
        self._snapshot = snapshot
        self._clock = clock
        self._last = MarginReading()
        self._at_ns: int | None = None

    async def run(self) -> None:
        """Reckons again and again; a store that fails is asked again after a pause, and the last reading stays."""
        while True:
            began_ns = self._clock.monotonic_ns()
            try:
                await self.reckon()
            except StoreError as error:
                _log.warning("the margin of the running month cannot be reckoned: %s", error)
            took_s = (self._clock.monotonic_ns() - began_ns) / NS_PER_S
            await asyncio.sleep(max(_PERIOD_S, took_s * _REST))

    async def reckon(self) -> None:
        """Reads the running month and the running billing period of every tenant. StoreError when that fails."""
        now_us, snapshot = self._clock.wall_ns() // NS_PER_US, self._snapshot()
        span = month_span(time_text(now_us * NS_PER_US)[:7], now_us)
        if not has_minutes(span, now_us, snapshot.settings.minute_sums_ns):
            span = whole_hours(span)
        currency = margins.currency(snapshot)
        whole = await margins.whole_account(self._ledger, span)
        floor = margins.Floor(whole, span, snapshot.costs.buffer, currency)
        sides = await self._sides(snapshot, Stretch(span), floor)
        periods = await self._sides(snapshot, Stretch(span, "billing"), None)
        self._last = MarginReading(sides, periods, currency, floor.floor, floor.below)
        self._at_ns = self._clock.monotonic_ns()

    async def _sides(
        self, snapshot: Snapshot, stretch: Stretch, floor: margins.Floor | None
    ) -> dict[tuple[str, str], tuple[int, ...]]:
        """As in MarginReading; ``floor`` sees every tenant."""
        cells: dict[tuple[str, str], Account] = {}
        walk = tenant_accounts(self._store, self._ledger, snapshot, stretch, self._clock.wall_ns())
        async with aclosing(walk) as accounts:
            async for account in accounts:
                if floor is not None:
                    floor.look(account)
                for (_, route), cell in account.cells.items():
                    pair = (account.plan, route)
                    pair = pair if pair in cells or len(cells) < MAX_SERIES else (OTHER, OTHER)
                    cells.setdefault(pair, Account()).add(cell)
        return {pair: (cell.revenue, cell.cost, cell.credits, cell.unpaid) for pair, cell in cells.items()}

    def read(self) -> MarginReading:
        """What was found last; without samples before the first time."""
        if self._at_ns is None:
            return self._last
        return self._last.aged((self._clock.monotonic_ns() - self._at_ns) / NS_PER_S)
