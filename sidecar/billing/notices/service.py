"""The task that sends notices where nobody is asked for payment; of several nodes one at a time."""

import asyncio
import contextlib
import logging
import os
from typing import Protocol

from sidecar.billing.notices.sender import NoticeSender
from sidecar.core.accounts import PaymentCounts
from sidecar.core.billing_settings import Notices
from sidecar.core.billing_store import Inbox, Outbox
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError

LEAD_NS = 30 * NS_PER_S
ROUND_S = 1.0
_WHAT = "notices"
log = logging.getLogger("sidecar.billing")


class NoticeStore(Inbox, Outbox, Protocol):
    """The notices, and who leads."""


class NoticeService:
    """``run`` it, then ``close`` it."""

    def __init__(self, store: NoticeStore, settings: Notices, clock: Clock, counts: PaymentCounts) -> None:
        self._store = store
        self._clock = clock
        self._node = os.urandom(8).hex()
        self._sender = NoticeSender(store, settings, clock, counts.notices)
        self._until_ns = 0

    async def run(self) -> None:
        """Sends what is due, until cancelled."""
        while True:
            try:
                await self.round()
            except SidecarError as error:
                log.warning("notices: %s", error)
            except Exception:
                log.exception("sending notices failed; it goes on")
            await asyncio.sleep(ROUND_S)

    async def round(self) -> None:
        """Once, when this node leads. StoreError."""
        now = self._clock.monotonic_ns()
        if now >= self._until_ns:
            led = await self._store.lead(_WHAT, self._node, ttl_ns=LEAD_NS, at_ns=self._clock.wall_ns())
            self._until_ns = now + LEAD_NS // 3 if led else 0
        if self._until_ns:
            await self._sender.work_off()

    async def close(self) -> None:
        """Lets another node lead, and closes the connections."""
        with contextlib.suppress(SidecarError):
            await self._store.yield_lead(_WHAT, self._node)
        await self._sender.close()
