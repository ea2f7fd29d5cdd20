"""Usage reaches the payee while the sidecar runs: assigning, sending, verifying, each at its own pace.

One node of an installation does it at a time. A node that stops says so; one that dies is followed within a minute.
Keeping the lead, reporting and looking again are three tasks: reading the sums of 30,000 customers and meters takes
half an hour at the pace that Stripe allows, and what was just used does not wait for it.
Nothing here is on the way of a request: when the payee, the key or the catalogue is wrong, calls are served, usage
waits in the ledger, and the readings say what is wrong.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from sidecar.billing.outbox import Assigner, Events, Sender
from sidecar.billing.reconcile import Alarms, Book, ParityKeeper, Verifier, heal_ledger
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError

TICK_S = 5.0
LEAD_NS = 60 * NS_PER_S
# How often each part is done, seconds.
EVERY_S = {
    "lead": 15,
    "check": 60,
    "assign": 30,
    "send": 0,
    "verify": 60,
    "parity": 300,
    "heal": 900,
    "drift": 900,
    "unasked": 900,
    "tell": 60,
    "forget": 60,
    "count": 60,
}
KEEPING = ("lead", "count")
REPORTING = ("check", "assign", "send", "forget")
LOOKING = ("verify", "parity", "heal", "drift", "unasked", "tell")
RECHECK_S = 3_600  # of meters and permissions that were right
KEEP_S = 400 * 86_400  # rows that were verified, and what they stand for
_FORGET_AT_MOST = 10_000  # rows: 14 million a day
_MOST_NAMED = 10  # tenants in one line of the log
_log = logging.getLogger("sidecar.billing")


@dataclass(frozen=True, slots=True)
class BillingReading:
    """``rows``: state to (rows, age of the oldest in seconds). ``faults``: what is wrong with the payee's side, in
    sentences: while there are any nothing is sent. ``outcomes``: of attempts. ``drift``: differences between the
    policies and the payee's catalogue, None: not known, and ``catalogue_fault`` may say why. ``unasked``:
    tenants on a plan that costs, without a subscription. ``parity_differs``: lately ended periods whose book does not
    agree with the invoice."""

    leads: bool = False
    rows: dict[str, tuple[int, float]] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    read_back: int = 0
    missing: int = 0
    foreign: int = 0
    healed: int = 0
    skew_s: int = 0
    failures: int = 0
    drift: int | None = None
    catalogue_fault: str = ""
    unasked: int = 0
    parity_differs: int = 0


@dataclass(slots=True)
class Parts:
    """What a payee needs: ``check`` says in sentences why it could not be billed right; ``drift`` counts differences of
    the catalogue; ``unasked`` names tenants that pay nobody for a plan that costs; ``prepare`` is done before
    assigning. ``verifier`` None: the payee has no sums; ``parity`` None: it has no invoices."""

    assigner: Assigner
    sender: Sender
    verifier: Verifier | None
    parity: ParityKeeper | None
    events: Events
    alarms: Alarms
    check: Callable[[], Awaitable[list[str]]]
    drift: Callable[[], Awaitable[int | None]]
    unasked: Callable[[], Awaitable[list[str]]]
    prepare: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


class Reporting:
    """``run`` until it is cancelled, then ``close``. ``node`` names this process among those of the store, and whoever
    takes its place after a crash: that one goes on at once."""

    def __init__(
        self,
        store: Book,
        parts: Parts,
        node: str,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._parts = parts
        self._node = node
        self._clock = clock
        self._sleep = sleep
        self._steps: dict[str, Callable[[], Awaitable[None]]] = {
            "lead": self._lead,
            "count": self._count,
            "check": self._check,
            "assign": self._assign,
            "send": self._send,
            "forget": self._forget,
            "verify": self._verify,
            "parity": self._parity,
            "heal": self._heal,
            "drift": self._compare_catalogue,
            "unasked": self._name_unasked,
            "tell": self._tell,
        }
        self._done_ns: dict[str, int] = {}
        self._checked_ns: int | None = None
        self._faults: tuple[str, ...] = ("the payee was not asked yet",)
        self._rows: dict[str, tuple[int, int]] = {}
        self._leads = False
        self._healed = 0
        self._failures = 0
        self._drift: int | None = None
        self._catalogue_fault = ""
        self._unasked: list[str] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for names in (KEEPING, REPORTING, LOOKING):
                tasks.create_task(self._again_and_again(names))

    async def tick(self, names: Iterable[str] = (*KEEPING, *REPORTING, *LOOKING)) -> None:
        """Everything whose time has come. No error leaves it: the next tick tries again."""
        for name in names:
            if not self._is_due(name):
                continue
            try:
                await self._steps[name]()
            except SidecarError as error:
                self._failures += 1
                _log.warning("billing has to try again (%s): %s", name, error)

    async def _again_and_again(self, names: tuple[str, ...]) -> None:
        while True:
            await self.tick(names)
            await self._sleep(TICK_S)

    async def close(self) -> None:
        """Lets another node follow at once."""
        try:
            if self._leads:
                await self._store.yield_lead("reporting", self._node)
        except SidecarError as error:
            _log.warning("billing is left to another node after a minute: %s", error)
        finally:
            await self._parts.close()

    def read(self) -> BillingReading:
        now_ns = self._clock.wall_ns()
        sender, verifier = self._parts.sender.readings, self._parts.verifier
        stopped = (sender.stopped,) if sender.stopped else ()
        unreadable = (verifier.unreadable,) if verifier is not None and verifier.unreadable else ()
        stuck = tuple(f"{tenant}: {text}" for tenant, text in self._parts.assigner.stuck.items())
        return BillingReading(
            leads=self._leads,
            rows={state: (count, (now_ns - oldest) / NS_PER_S) for state, (count, oldest) in self._rows.items()},
            outcomes=dict(sender.outcomes),
            faults=(*self._faults, *stopped, *unreadable, *stuck) if self._leads else (),
            read_back=sender.read_back,
            missing=verifier.missing if verifier is not None else 0,
            foreign=len(verifier.foreign) if verifier is not None else 0,
            healed=self._healed,
            skew_s=sender.skew_s,
            failures=self._failures,
            drift=self._drift,
            catalogue_fault=self._catalogue_fault,
            unasked=len(self._unasked),
            parity_differs=len(self._parts.parity.differing) if self._parts.parity is not None else 0,
        )

    def _is_due(self, name: str) -> bool:
        if name not in ("lead", "count") and not self._leads:
            return False
        if name == "send" and self._faults:
            return False
        now_ns, last_ns = self._clock.monotonic_ns(), self._done_ns.get(name)
        if last_ns is not None and now_ns - last_ns < EVERY_S[name] * NS_PER_S:
            return False
        self._done_ns[name] = now_ns
        return True

    async def _lead(self) -> None:
        now_ns = self._clock.wall_ns()
        self._leads = await self._store.lead("reporting", self._node, ttl_ns=LEAD_NS, at_ns=now_ns)

    async def _count(self) -> None:
        self._rows = await self._store.row_counts()

    async def _check(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if not self._faults and self._checked_ns is not None and now_ns - self._checked_ns < RECHECK_S * NS_PER_S:
            return
        try:
            found = tuple(await self._parts.check())
        except SidecarError as error:
            if self._faults:  # else it goes on: an outage is no reason to stop
                self._faults = (str(error),)
            raise
        for fault in found:
            if fault not in self._faults:
                _log.error("usage is not reported: %s", fault)
        if self._faults and not found:
            _log.info("usage is reported")
        self._faults, self._checked_ns = found, now_ns

    async def _assign(self) -> None:
        await self._parts.prepare()
        await self._parts.assigner.assign()

    async def _send(self) -> None:
        while self._leads and await self._parts.sender.send():
            pass

    async def _verify(self) -> None:
        """A page, so that parity is not kept waiting; the next one follows with the next tick."""
        verifier = self._parts.verifier
        if verifier is not None:
            await verifier.verify()
            if verifier.more:
                self._done_ns.pop("verify", None)

    async def _parity(self) -> None:
        if self._parts.parity is not None:
            await self._parts.parity.keep()

    async def _heal(self) -> None:
        names = (*self._parts.events.added, *self._parts.events.hourly)
        self._healed += await heal_ledger(self._store, names, self._clock.wall_ns())

    async def _compare_catalogue(self) -> None:
        try:
            self._drift, self._catalogue_fault = await self._parts.drift(), ""
        except SidecarError as error:
            self._drift, self._catalogue_fault = None, str(error)
            self._done_ns["drift"] -= (EVERY_S["drift"] - EVERY_S["check"]) * NS_PER_S  # again in a minute
            raise

    async def _name_unasked(self) -> None:
        found = await self._parts.unasked()
        if found and found != self._unasked:
            shown = ", ".join(found[:_MOST_NAMED]) + (" and more" if len(found) > _MOST_NAMED else "")
            _log.warning("nobody is asked for what these use, they have a plan with a price only: %s", shown)
        self._unasked = found

    async def _tell(self) -> None:
        await self._parts.alarms.look(self._rows, self.read().faults)

    async def _forget(self) -> None:
        before = (self._clock.wall_ns() // NS_PER_S - KEEP_S) // 60
        await self._store.forget_billed(before=before, at_most=_FORGET_AT_MOST)
