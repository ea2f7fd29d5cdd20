"""A parent: the office, the limits of all workers, and the workers themselves."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from sidecar.admin import WorkersReading, make_public_app
from sidecar.admission import Admission
from sidecar.app.crew import Crew, Member
from sidecar.app.journals import numbers, recover, recover_all, sink_of, small
from sidecar.app.merging import added, still
from sidecar.app.office import Office, bound
from sidecar.app.pages import PAGES
from sidecar.app.parts import journal_folder
from sidecar.app.readings import LaneReadings, LaneSources
from sidecar.app.sockets import bind_groups, place_of
from sidecar.app.wires import WIRE, packed
from sidecar.billing import teller
from sidecar.config import Configuration
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import Conflict, SidecarError, StoreLocked
from sidecar.core.policy import Snapshot
from sidecar.identity import Peppers
from sidecar.ledger import ShipperReadings, is_free
from sidecar.metering import Tallies
from sidecar.storage import BookStore, Channel, Handler, LinkServer, own_socket

LINK = "link"
_LOOK_S = 1.0
_REST = 20  # a look at many series takes long: at most a part of 1 / _REST of the time
_ADOPT = 5  # looks
_log = logging.getLogger("sidecar")


class Parent(Office):
    """Serves no call itself. ``command`` starts a worker."""

    def __init__(
        self,
        snapshot: Snapshot,
        command: Sequence[str],
        clock: Clock | None = None,
        configuration: Configuration | None = None,
    ) -> None:
        super().__init__(snapshot, clock, configuration)
        self._command = command
        self._book = BookStore(self._clock)
        self._link = Path(snapshot.settings.data) / LINK
        self._told: dict[int, Snapshot] = {}  # slot to the snapshot that its process began with
        self._sinks: dict[int, contextlib.AsyncExitStack] = {}
        self._turn = asyncio.Lock()  # nobody joins in the middle of a reload
        self._crew: Crew

    @property
    def listening(self) -> tuple[str, str]:
        """The ``host:port`` of the lane and of the admin port, as bound."""
        return self._place, bound(self._admin_runner)

    async def _open(self) -> None:
        settings = self.snapshot.settings
        workers = settings.workers
        await self._open_stores(settings, small(settings.journal))
        self._limits = self._limits or self._book
        self._open_peppers()
        self._found = await recover_all(self.snapshot, self._clock, self._store)
        groups = bind_groups(settings.listen_host, settings.listen_port, workers)
        self._sockets = [sock for group in groups for sock in group]
        self._rooms.callback(self._close_sockets)
        self._place = place_of(groups[0])
        self._idle = self._nothing()
        fds = [[sock.fileno() for sock in group] for group in groups]
        self._crew = Crew(self._command, self._link, fds, self._clock, self._bury, workers)
        await self._open_pages()
        server = LinkServer(self._link, self._accept)
        await server.start()
        self._rooms.push_async_callback(server.close)
        self._open_billing()
        await self._open_admin(settings)
        self._rooms.push_async_callback(self._dismiss)
        await self._crew.start()
        await self._crew.refresh()
        self._background(self._look())
        self._background(self.reloads.watch())

    async def _open_pages(self) -> None:
        """The pages of payment, which workers pass on to."""
        runner = web.AppRunner(make_public_app(None, self._open_payments()), access_log=None)
        await runner.setup()
        self._rooms.push_async_callback(runner.cleanup)
        path = self._link.with_name(PAGES)
        await web.SockSite(runner, own_socket(path)).start()
        self._rooms.callback(path.unlink, missing_ok=True)

    async def _dismiss(self) -> None:
        self._close_sockets()
        await self._crew.stop(self.snapshot.settings.drain_ns / NS_PER_S)

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()

    # What workers ask -------------------------------------------------------------------------------------------------

    def _accept(self, pid: int) -> Channel | None:
        member = self._crew.by_pid(pid)
        if member is None or member.channel is not None:
            return None
        store = self._store

        def lost() -> None:
            member.settled.clear()  # what it left in its journal is still to be shipped

        handlers: dict[str, Handler] = {
            "ping": lambda: True,
            "lease": self._book.decide,
            "tenant": store.tenant,
            "key": store.key,
            "keys_version": store.keys_version,
            "account": store.account,
            "meter_total": self._meter_total,
            "tell": teller(lambda: self.snapshot, store),
            "credit": store.credit,
            "settle_credits": lambda book, burned, until: store.settle_credits(book, burned, if_until=until),
            "hello": lambda: self._hello(member),
            "enter": lambda identity: self._enter(member, identity),
            "ready": lambda: self._serves(member),
            "farewell": lambda readings: self._farewell(member, readings),
        }
        member.channel = Channel(WIRE, handlers, lost)
        return member.channel

    async def _hello(self, member: Member) -> tuple[bytes, int, list[int]]:
        async with self._turn:
            self._told[member.slot] = self.snapshot
            member.number = self._free_number(member)
            return packed(self.snapshot), member.number, [member.slot]

    def _free_number(self, member: Member) -> int:
        """Its last one, or the first that no process has."""
        taken = {other.number for other in self._crew.members if other is not member}
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

    def _keep(self, found: ShipperReadings) -> None:
        self._found = [added([*map(still, self._found), still(found)])]

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
        """How the workers stand; and every few looks, whether a process has left a journal that nobody has."""
        looks = 0
        while True:
            began_ns = self._clock.monotonic_ns()
            await self._crew.refresh()
            took_s = (self._clock.monotonic_ns() - began_ns) / NS_PER_S
            await asyncio.sleep(max(_LOOK_S, _REST * took_s))
            looks += 1
            if looks % _ADOPT == 0:
                await self._adopt()

    async def _adopt(self) -> None:
        async with self._turn:
            ours = {member.number for member in self._crew.members}
            for number in set(numbers(self.snapshot.settings.data)) - ours:
                try:
                    found = await recover(self.snapshot, self._clock, self._store, number)
                except StoreLocked:
                    continue
                except (SidecarError, OSError) as error:
                    _log.error("the journal %d could not be shipped: %s", number, error)
                    continue
                if found is not None:
                    self._keep(found)
