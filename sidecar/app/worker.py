"""One worker: a lane with a journal of its own, whose look-ups, limits and ledger are its parent's."""

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from aiohttp import web

from sidecar.admission import MeterTotal, Tell
from sidecar.app.front import Front
from sidecar.app.journals import own_share
from sidecar.app.pages import PAGES, Pages
from sidecar.app.parts import open_journal, open_limits, shipper_of
from sidecar.app.readings import LaneReadings
from sidecar.app.sockets import HANDSHAKES_S, adopted
from sidecar.app.spending import SpendReading
from sidecar.app.wires import WIRE, unpacked
from sidecar.core.crossings import Crossing
from sidecar.core.errors import SidecarError
from sidecar.core.policy import Quota, Snapshot
from sidecar.storage import Channel, Handler, LinkLimitStore, LinkStore, connect, short_name

_GONE_S = 0.1  # for shipping, when nobody takes it any more
_log = logging.getLogger("sidecar")
Swap = Callable[[], None]


class Worker(Front):
    """``channel`` is connected to the parent; ``number``: of the journal; ``groups``: inherited sockets, by worker;
    ``slots``: which of them are this one's; ``pages``: the parent's socket for the pages of payment."""

    def __init__(
        self,
        snapshot: Snapshot,
        channel: Channel,
        number: int,
        slots: list[int],
        groups: list[list[int]],
        pages: Path,
    ) -> None:
        super().__init__(snapshot)
        self._pages_socket = pages
        self._channel = channel
        self._number = number
        self._slots = slots
        self._groups = groups
        self._sites: dict[int, list[web.BaseSite]] = {}
        self._ready: Swap | None = None
        self._turn = asyncio.Lock()

    async def _open(self) -> None:
        snapshot, settings = self.snapshot, self.snapshot.settings
        bounds = own_share(settings.journal, settings.workers)
        self._journal = open_journal(snapshot, self._clock, bounds, self._number)
        self._rooms.callback(self._journal.close)
        await self._channel.call("enter", self._journal.identity)
        store = LinkStore(self._channel)
        self._shipper = shipper_of(settings, self._journal, store, self._clock)
        await self._shipper.recover()
        self._rooms.push_async_callback(self._farewell)
        self._shipper.start()
        self._rooms.push_async_callback(self._end_shipping)
        self._limits = open_limits(settings) or LinkLimitStore(self._channel)
        self._rooms.push_async_callback(self._limits.close)
        await self._limits.ready()
        self._lookups = store
        self._books = store if settings.billing.stripe is not None else None
        self._totals = _totals(store)
        self._tell = _teller(self._channel)
        self._spent = SpendReading(store, self._clock, _caught_up).read
        self._open_peppers()
        await self._open_lane(snapshot, self._pages() if self._books is not None else [])
        await self._listen(settings, [])
        for slot in self._slots:
            await self.cover(slot)

    def _pages(self) -> list[web.RouteDef]:
        pages = Pages(self._rooms.enter_context(short_name(self._pages_socket)))
        self._rooms.push_async_callback(pages.close)
        return pages.routes()

    def handlers(self) -> Mapping[str, Handler]:
        """What the parent may ask."""
        return {
            "prepare": self.prepare,
            "commit": self.commit,
            "abort": self.abort,
            "forget": self._changed,
            "flush": self._shipper.flush,
            "readings": self.readings,
            "cover": self.cover,
            "uncover": self.uncover,
            "leave": self.leave,
        }

    def readings(self) -> LaneReadings:
        return self._lane_sources().read()

    async def cover(self, slot: int) -> None:
        """Accepts at the sockets of worker ``slot`` too."""
        if slot in self._sites or self._draining:
            return
        sites = self._sites[slot] = []
        for fd in self._groups[slot]:
            site = self._site(adopted(fd))
            await site.start()
            sites.append(site)

    async def uncover(self, slot: int) -> None:
        """Leaves them to their own worker."""
        if slot not in self._slots:
            for site in self._sites.pop(slot, []):
                await site.stop()

    async def _last_ones(self) -> None:
        # The parent shuts newcomers out before it says so; where both get the signal at once, it does so meanwhile.
        await asyncio.sleep(2 * HANDSHAKES_S)

    def _drop_sockets(self) -> None:
        fds, self._groups = self._groups, []
        for fd in (fd for group in fds for fd in group):
            os.close(fd)

    async def leave(self) -> None:
        """Another parent takes over, with workers of its own: what has ended is shipped, what has not may still end."""
        await self._stop_accepting()
        self._sites.clear()
        await self._shipper.flush()

    async def abort(self) -> None:
        """What was prepared is not wanted any more."""
        async with self._turn:
            self._ready = None

    async def prepare(self, data: bytes) -> None:
        """The first half of a reload: makes what it needs. SidecarError: this worker cannot take it."""
        async with self._turn:
            self._ready = None
            self._ready = await self._prepare(unpacked(data))

    async def commit(self) -> None:
        """The second half: what was prepared comes into force."""
        async with self._turn:
            swap, self._ready = self._ready, None
            if swap is not None:
                swap()
                gc.collect()  # for the same reason as in reloading: a worker that has little to do would keep it all

    async def _farewell(self) -> None:
        if not self._channel.ended:
            try:
                await self._channel.call("farewell", self.readings())
            except SidecarError as error:
                _log.warning("the last readings did not reach the parent: %s", error)

    async def _end_shipping(self) -> None:
        await self._shipper.stop(_GONE_S if self._channel.ended else 10.0)


async def _caught_up() -> None:
    """The parent catches up with every worker before it sums a meter."""


def _totals(store: LinkStore) -> MeterTotal:
    async def total(tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        return await store.meter_total(tenant, meter, since_us=since_us, until_us=until_us, sandbox=sandbox)

    return total


def _teller(channel: Channel) -> Tell:
    async def tell(crossing: Crossing, plan: str, quota: Quota) -> bool:
        return bool(await channel.call("tell", crossing, plan, quota))

    return tell


async def join(link: Path, groups: list[list[int]], stop: asyncio.Event) -> tuple[Worker, Channel]:
    """The worker that the parent at ``link`` wants this process to be, not yet started. StoreDown: there is none.

    ``stop`` is set when the parent asks for it or is gone.
    """
    channel = Channel(WIRE, {"drain": stop.set}, stop.set)
    await connect(link, channel)
    data, number, slots = await channel.call("hello", timeout_s=120.0)
    return Worker(unpacked(data), channel, number, slots, groups, link.with_name(PAGES)), channel


async def serve(worker: Worker, channel: Channel, stop: asyncio.Event, started: Callable[[], None]) -> None:
    """Runs it until ``stop``; ``started`` is called once it serves."""
    await worker.start()
    try:
        started()
        channel.handlers = {**channel.handlers, **worker.handlers()}
        if not stop.is_set():
            await channel.call("ready", timeout_s=60.0)
        await stop.wait()
    finally:
        await worker.stop()
        channel.close()
