"""A parent: the office, the limits of all workers, and the workers themselves."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from sidecar.admin import WorkersReading, make_public_app
from sidecar.admission import Admission
from sidecar.app.crew import Crew, Member
from sidecar.app.journals import recover, sink_of, small
from sidecar.app.merging import added, still
from sidecar.app.office import Office
from sidecar.app.pages import PAGES
from sidecar.app.parts import journal_folder
from sidecar.app.readings import LaneReadings, LaneSources
from sidecar.app.sockets import close_all, place_of, shut_out
from sidecar.app.wires import WIRE, packed
from sidecar.billing import teller
from sidecar.config import Configuration
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import Conflict, SidecarError
from sidecar.core.policy import Snapshot
from sidecar.identity import Peppers
from sidecar.ledger import is_free
from sidecar.metering import Tallies
from sidecar.storage import BookStore, Channel, Handler, LinkServer, own_socket

LINK = "link"
_LOOK_S = 1.0
_HERE_S = 60.0
_REST = 20  # a look at many series takes long: at most a part of 1 / _REST of the time
_log = logging.getLogger("sidecar")


class Parent(Office):
    """Serves no call itself. ``command`` starts a worker."""

    def __init__(
        self,
        snapshot: Snapshot,
        command: Sequence[str],
        clock: Clock | None = None,
        configuration: Configuration | None = None,
        **more: Any,
    ) -> None:
        """``more``: as of Office."""
        super().__init__(snapshot, clock, configuration, **more)
        self._command = command
        self._book = BookStore(self._clock)
        self._link = Path(snapshot.settings.data) / LINK
        self._told: dict[int, Snapshot] = {}  # slot to the snapshot that its process began with
        self._sinks: dict[int, contextlib.AsyncExitStack] = {}
        self._here = asyncio.Event()  # every worker has come
        self._opened = asyncio.Event()  # they may go on
        self._turn = asyncio.Lock()  # nobody joins in the middle of a reload
        self._crew: Crew

    @property
    def listening(self) -> tuple[str, str]:
        """The ``host:port`` of the lane and of the admin port, as bound."""
        return place_of(self._groups[0]), place_of(self._admin_sockets)

    async def _open(self) -> None:
        settings = self.snapshot.settings
        if self._handed is not None:
            # The others still serve: the workers' interpreters start meanwhile, and wait until the store is ours.
            self._bind(settings)
            await self._open_link()
            self._crew.begin()
            await self._all_here()
        await self._open_stores(settings, small(settings.journal))
        self._limits = self._limits or self._book
        self._open_peppers()
        self._idle = self._nothing()
        if self._handed is None:
            self._bind(settings)
            await self._open_link()
        await self._adopt()
        await self._open_pages()
        await self._open_office(settings)
        self._rooms.push_async_callback(self._dismiss)
        self._opened.set()
        await self._crew.start()
        await self._crew.refresh()
        self._background(self._look())
        self._background(self._adopting())
        self._open_door()

    async def _open_link(self) -> None:
        fds = [[sock.fileno() for sock in group] for group in self._groups]
        workers = self.snapshot.settings.workers
        self._crew = Crew(self._command, self._link, fds, self._clock, self._bury, workers)
        self._rooms.callback(self._end_crew)
        server = LinkServer(self._link, self._accept)
        await server.start()
        self._rooms.push_async_callback(server.close)

    async def _all_here(self) -> None:
        """Every worker's interpreter is up. SidecarError: not so; then the others have not been asked to leave."""
        try:
            async with asyncio.timeout(_HERE_S):
                await self._here.wait()
        except TimeoutError:
            raise SidecarError("a worker does not start; the process that runs goes on") from None

    def _end_crew(self) -> None:
        """Where the start failed: no worker outlives it."""
        if not self._released:
            self._crew.kill()

    async def release(self) -> None:
        self._draining = self._released = True
        await self._crew.leave()
        await self._shipper.stop()
        await self._rooms.aclose()

    async def _open_pages(self) -> None:
        """The pages of payment, which workers pass on to."""
        runner = web.AppRunner(make_public_app(None, self._open_payments()), access_log=None)
        await runner.setup()
        self._rooms.push_async_callback(runner.cleanup)
        path = self._link.with_name(PAGES)
        await web.SockSite(runner, own_socket(path)).start()
        self._rooms.callback(path.unlink, missing_ok=True)  # before a successor makes its own

    async def _dismiss(self) -> None:
        if not self._released:
            await shut_out(self._groups)
        close_all(self._groups)
        if not self._released:
            await self._crew.stop(self.snapshot.settings.drain_ns / NS_PER_S)

    # What workers ask -------------------------------------------------------------------------------------------------

    def _accept(self, pid: int) -> Channel | None:
        member = self._crew.by_pid(pid)
        if member is None or member.channel is not None:
            return None

        def lost() -> None:
            member.settled.clear()  # what it left in its journal is still to be shipped

        member.channel = Channel(WIRE, {"hello": lambda: self._hello(member)}, lost)
        if all(one.channel is not None for one in self._crew.members):
            self._here.set()
        return member.channel

    def _handlers(self, member: Member) -> dict[str, Handler]:
        store = self._store
        return {
            "ping": lambda: True,
            "lease": self._book.decide,
            "tenant": store.tenant,
            "key": store.key,
            "keys_version": store.keys_version,
            "account": store.account,
            "meter_total": self._meter_total,
            "tell": teller(lambda: self.snapshot, store),
            "credit": store.credit,
            "settle_credits": lambda book, burned, until, shares: store.settle_credits(
                book, burned, if_until=until, shares=shares
            ),
            "enter": lambda identity: self._enter(member, identity),
            "ready": lambda: self._serves(member),
            "farewell": lambda readings: self._farewell(member, readings),
        }

    async def _hello(self, member: Member) -> tuple[bytes, int, list[int]]:
        await self._opened.wait()
        async with self._turn:
            if member.channel is not None:
                member.channel.handlers = self._handlers(member)
            self._told[member.slot] = self.snapshot
            member.number = self._free_number(member)
            return packed(self.snapshot), member.number, self._crew.slots_of(member)

    def _free_number(self, member: Member) -> int:
        """Its last one, or the first that no process has."""
        taken = {self._number, *(other.number for other in self._crew.members if other is not member)}
        number = member.number or member.slot + 1
        while number in taken or not is_free(journal_folder(self.snapshot, number)):
            number += 1
        return number

    async def _enter(self, member: Member, identity: str) -> None:
        await self._leave(member)
        rooms = self._sinks[member.slot] = contextlib.AsyncExitStack()
        sink = await rooms.enter_async_context(sink_of(self._store, member.number, identity))
        assert member.channel is not None
        member.channel.handlers = {
            **member.channel.handlers,
            "position": sink.position,
            "append": sink.append,
            "rejected": sink.rejected,
            "forget_events": lambda before_us, most: sink.forget_events(before_us=before_us, at_most=most),
            "forget_sums": lambda minutes, hours, most: sink.forget_sums(
                minutes_before_us=minutes, hours_before_us=hours, at_most=most
            ),
        }

    async def _leave(self, member: Member) -> None:
        rooms = self._sinks.pop(member.slot, None)
        if rooms is not None:
            await rooms.aclose()

    async def _serves(self, member: Member) -> None:
        async with self._turn:
            if self._told[member.slot] is not self.snapshot and member.channel is not None:
                await member.channel.call("prepare", packed(self.snapshot), timeout_s=30.0)
                await member.channel.call("commit")
            await self._crew.serves(member)

    def _farewell(self, member: Member, readings: LaneReadings) -> None:
        member.readings = readings

    async def _bury(self, member: Member) -> None:
        """Ships what a worker left that ended, whether or not it said goodbye."""
        await self._leave(member)
        try:
            found = await recover(self.snapshot, self._clock, self._store, member.number) if member.number else None
        except (SidecarError, OSError) as error:  # the next process in this place, or the next look, tries again
            _log.error("the journal of worker %d could not be shipped: %s", member.slot + 1, error)
            return
        if found is not None:
            self._keep(found)

    # What the office asks ---------------------------------------------------------------------------------------------

    async def _take(self, snapshot: Snapshot) -> None:
        if not self._started:
            raise Conflict("the sidecar is starting; it has read its configuration already")
        async with self._turn:
            identity, peppers = snapshot.settings.identity, self._peppers
            if identity != self.snapshot.settings.identity:
                peppers = Peppers.from_settings(identity.api_key, snapshot.settings.data)
            await self._crew.swap(packed(snapshot))
            self.snapshot, self._peppers = snapshot, peppers

    async def _changed(self, tenant: str | None, key_id: str | None) -> None:
        await self._crew.tell("forget", tenant, key_id)

    async def _flush(self) -> None:
        await super()._flush()
        await self._crew.flush()

    async def _refresh(self) -> None:
        await self._crew.refresh()

    def _unready(self) -> list[str]:
        reasons = super()._unready()
        if not self._crew.serving:
            return [*reasons, "no worker serves"]
        up: dict[str, bool] = {}
        for target in self._readings().upstreams:
            up[target.upstream] = up.get(target.upstream, False) or target.up
        return reasons + [
            f"upstream {name} is not available" for name in self.snapshot.upstreams if not up.get(name, True)
        ]

    def _workers(self) -> WorkersReading:
        return WorkersReading(self._crew.serving, len(self._crew.members), self._crew.replaced)

    def _warnings(self) -> list[str]:
        missing = len(self._crew.members) - self._crew.serving
        told = [f"{missing} of {len(self._crew.members)} workers do not serve; see the log"] if missing else []
        return super()._warnings() + told

    def _lane_sources(self) -> LaneSources:
        return LaneSources(
            tallies=lambda: self._readings().tallies,
            admission=lambda: self._readings().admission,
            journal=lambda: self._readings().journal,
            shipper=lambda: self._readings().shipper,
            upstreams=lambda: self._readings().upstreams,
            connections=lambda: self._readings().connections,
            blind=lambda: self._readings().blind,
        )

    def _readings(self) -> LaneReadings:
        own = dataclasses.replace(
            self._idle,
            journal=self._journal.readings(),
            shipper=added([self._shipper.readings(), *map(still, self._found)]),
        )
        return self._crew.read(own)

    def _nothing(self) -> LaneReadings:
        """Of a lane that there is not."""
        admission = Admission(self._clock, self._meter_total).readings()
        return LaneReadings(
            Tallies().read(),
            dataclasses.replace(admission, max_buckets=0),
            self._journal.readings(),
            self._shipper.readings(),
            (),
            0,
            blind=False,
        )

    async def _look(self) -> None:
        """How the workers stand."""
        while True:
            began_ns = self._clock.monotonic_ns()
            await self._crew.refresh()
            took_s = (self._clock.monotonic_ns() - began_ns) / NS_PER_S
            await asyncio.sleep(max(_LOOK_S, _REST * took_s))

    def _taken(self) -> set[int]:
        return {self._number, *(member.number for member in self._crew.members)}

    async def _adopt(self) -> None:
        async with self._turn:  # nobody takes a journal's folder meanwhile
            await super()._adopt()
