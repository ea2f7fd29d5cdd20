"""The workers of a parent: started, asked, replaced when they end, stopped.

A worker that ends is replaced at once, one that ends again within ten seconds after a pause that doubles up to five;
meanwhile the others accept at its sockets and the parent ships its journal.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from sidecar.app.merging import ended, merged
from sidecar.app.readings import LaneReadings
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError, StoreDown
from sidecar.storage import Channel

START_S = 150.0  # from the start of a process until it serves
_STEADY_NS = 10 * NS_PER_S
_PAUSE_S = (0.1, 5.0)
_ASK_S = 1.0
# A worker that answers none of so many questions for so long hangs: the kernel still gives it connections that nobody
# serves, and whoever sums usage waits for it. Both, so that a parent that stood still itself takes nobody for hung.
_HUNG_ASKS = 10
_HUNG_NS = 20 * NS_PER_S
_SWAP_S = 30.0
_LEAVE_S = 10.0
_log = logging.getLogger("sidecar")


class Member:
    """One worker's place, whichever process fills it. ``slot`` counts from 0; ``number``: of its journal, 0 for none.

    ``settled``: the ledger can have everything that ended here, because the worker is there or its journal is shipped.
    """

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.number = 0
        self.process: asyncio.subprocess.Process | None = None
        self.channel: Channel | None = None
        self.ready = asyncio.Event()
        self.settled = asyncio.Event()
        self.readings: LaneReadings | None = None
        self.task: asyncio.Task[None] | None = None
        self.unanswered = 0  # questions in a row
        self.heard_ns = 0
        self.close_sink: Callable[[], Awaitable[None]] | None = None
        self.settled.set()

    async def ask(self, name: str, *arguments: Any, timeout_s: float | None = _ASK_S) -> Any:
        """StoreDown: there is nobody, or no answer."""
        if self.channel is None or not self.ready.is_set():
            raise StoreDown(f"worker {self.slot + 1} is not there")
        return await self.channel.call(name, *arguments, timeout_s=timeout_s)

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()


class Crew:
    """``command`` starts a worker, its arguments are the link and the sockets; ``groups``: file descriptors by slot.

    ``bury(member)`` ships what a worker that ended left behind, before it is replaced.
    """

    def __init__(
        self,
        command: Sequence[str],
        link: Path,
        groups: list[list[int]],
        clock: Clock,
        bury: Callable[[Member], Awaitable[None]],
        workers: int,
    ) -> None:
        self.members = [Member(slot) for slot in range(workers)]
        self.replaced = 0
        self._command = command
        self._link = link
        self._groups = groups
        self._clock = clock
        self._bury = bury
        self._stopping = False
        self._past: LaneReadings | None = None  # of workers that ended

    def by_pid(self, pid: int) -> Member | None:
        """Whose process that is."""
        for member in self.members:
            if member.process is not None and member.process.pid == pid:
                return member
        return None

    def slots_of(self, member: Member) -> list[int]:
        """At whose sockets a worker accepts: its own, and its share of those that are left over."""
        return list(range(member.slot, len(self._groups), len(self.members)))

    async def leave(self) -> None:
        """Another parent takes over: workers accept no more, ship what has ended, and go on alone to the end."""
        self._stopping = True
        ready = [member for member in self.members if member.ready.is_set()]
        told = await asyncio.gather(
            *(member.ask("leave", timeout_s=_LEAVE_S) for member in ready), return_exceptions=True
        )
        for member, fault in zip(ready, told, strict=True):
            if isinstance(fault, BaseException):
                _log.error("worker %d keeps what it has to ship: %s", member.slot + 1, fault)
        tasks = [member.task for member in self.members if member.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for member in self.members:
            if member.channel is not None:
                member.channel.close()

    @property
    def serving(self) -> int:
        return sum(member.ready.is_set() for member in self.members)

    @property
    def stopping(self) -> bool:
        return self._stopping

    def begin(self) -> None:
        """Starts the processes."""
        for member in self.members:
            member.task = member.task or asyncio.ensure_future(self._keep(member))

    def kill(self) -> None:
        """Ends all of them at once."""
        self._stopping = True
        for member in self.members:
            member.kill()

    async def start(self) -> None:
        """Returns when all serve. SidecarError: one could not."""
        self.begin()
        waiting = asyncio.ensure_future(self._all_ready())
        tasks = [member.task for member in self.members if member.task is not None]
        done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        if waiting not in done:
            waiting.cancel()
            raise SidecarError("a worker ended while it was starting; its messages say why")

    async def stop(self, drain_s: float) -> None:
        """Every worker drains and leaves; those that take longer are killed."""
        self._stopping = True
        for member in self.members:
            if member.channel is not None:
                with contextlib.suppress(SidecarError):
                    await member.channel.call("drain")
            elif member.process is not None and member.process.returncode is None:
                member.process.terminate()
        tasks = [member.task for member in self.members if member.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s + 15)
        for member in self.members:
            member.kill()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def flush(self) -> None:
        """Every call that has ended in a worker is in the ledger."""
        await asyncio.gather(*(self._flush(member) for member in self.members))

    async def tell(self, name: str, *arguments: Any) -> None:
        """Asks all that serve; one that does not answer is replaced, since it must not go on without having heard."""
        await asyncio.gather(*(self._tell(member, name, arguments) for member in self.members))

    async def swap(self, data: bytes) -> None:
        """A new snapshot in every worker, or in none. SidecarError: one refused it."""
        members = [member for member in self.members if member.ready.is_set()]
        outcomes = await asyncio.gather(
            *(member.ask("prepare", data, timeout_s=_SWAP_S) for member in members), return_exceptions=True
        )
        for member, outcome in zip(members, outcomes, strict=True):
            if isinstance(outcome, StoreDown):
                member.kill()
            elif isinstance(outcome, BaseException):
                await self.tell("abort")
                raise outcome
        await asyncio.gather(*(self._tell(member, "commit", ()) for member in members))

    async def refresh(self) -> None:
        """Asks every worker how it stands."""
        await asyncio.gather(*(self._read(member) for member in self.members))

    def read(self, own: LaneReadings) -> LaneReadings:
        """All of them, those that ended, and ``own``, as one."""
        past = [] if self._past is None else [self._past]
        return merged([own, *past, *(member.readings for member in self.members if member.readings is not None)])

    async def _all_ready(self) -> None:
        for member in self.members:
            await member.ready.wait()

    async def _flush(self, member: Member) -> None:
        if member.ready.is_set():
            try:
                await member.ask("flush", timeout_s=None)
                return
            except StoreDown:  # it ended: what it left is being shipped
                pass
        await member.settled.wait()

    async def _tell(self, member: Member, name: str, arguments: tuple[Any, ...]) -> None:
        if not member.ready.is_set():
            return
        try:
            await member.ask(name, *arguments, timeout_s=5.0)
        except SidecarError as error:
            _log.error("worker %d did not take %s and is replaced: %s", member.slot + 1, name, error)
            member.kill()

    async def _read(self, member: Member) -> None:
        if not member.ready.is_set():
            return
        try:
            member.readings = await member.ask("readings")
        except StoreDown:
            self._silent(member)
        else:
            self._heard(member)

    def _heard(self, member: Member) -> None:
        member.unanswered, member.heard_ns = 0, self._clock.monotonic_ns()

    def _silent(self, member: Member) -> None:
        member.unanswered += 1
        silent_ns = self._clock.monotonic_ns() - member.heard_ns
        if member.ready.is_set() and member.unanswered >= _HUNG_ASKS and silent_ns >= _HUNG_NS:
            _log.error("worker %d has not answered for %d s and is replaced", member.slot + 1, silent_ns // NS_PER_S)
            member.kill()

    async def _keep(self, member: Member) -> None:
        """Starts a process in this place again and again. Returns when one never served, or at a stop."""
        pause_s, served = 0.0, False
        while not self.stopping:
            began_ns = self._clock.monotonic_ns()
            try:
                code = await self._run(member)
            except OSError as error:
                if not served:
                    raise
                code = -1
                _log.error("worker %d cannot be started: %s", member.slot + 1, error.strerror)
            served = served or member.ready.is_set()
            try:
                await self._ended(member)
            except Exception:  # whatever is wrong with what one left, its place must not stay empty
                _log.exception("what worker %d left is not put in order; it is at the next start", member.slot + 1)
            if self.stopping or not served:
                return
            steady = self._clock.monotonic_ns() - began_ns > _STEADY_NS
            pause_s = 0.0 if steady else min(max(2 * pause_s, _PAUSE_S[0]), _PAUSE_S[1])
            self.replaced += 1
            _log.error("worker %d ended (%s) and is replaced in %g s", member.slot + 1, _words(code), pause_s)
            await asyncio.sleep(pause_s)

    async def _run(self, member: Member) -> int:
        """The exit code of one process in this place."""
        fds = [fd for group in self._groups for fd in group]
        member.process = await asyncio.create_subprocess_exec(
            *self._command,
            str(self._link),
            json.dumps(self._groups),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=fds,
            env=_environment(),
        )
        late = asyncio.get_running_loop().call_later(START_S, self._late, member)
        try:
            code: int = await member.process.wait()
            return code
        finally:
            late.cancel()

    def _late(self, member: Member) -> None:
        if not member.ready.is_set():
            _log.error("worker %d does not serve after %g s", member.slot + 1, START_S)
            member.kill()

    async def _ended(self, member: Member) -> None:
        member.settled.clear()
        member.ready.clear()
        member.process = None
        if member.channel is not None:
            member.channel.close()
            member.channel = None
        if member.readings is not None:
            gone, member.readings = ended(member.readings), None
            self._past = gone if self._past is None else merged([self._past, gone])
        helping = [] if self._stopping else [other for other in self.members if other.ready.is_set()]
        if helping:
            for slot in self.slots_of(member):
                await self._tell(helping[slot % len(helping)], "cover", (slot,))
        try:
            await self._bury(member)
        finally:
            member.settled.set()

    async def serves(self, member: Member) -> None:
        """The process in this place is ready: the others leave its sockets to it."""
        self._heard(member)
        member.ready.set()
        for other in self.members:
            if other is not member:
                for slot in self.slots_of(member):
                    await self._tell(other, "uncover", (slot,))


def _words(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _environment() -> dict[str, str]:
    """Ours, with this very package to be found first."""
    package = str(Path(__file__).parents[2])
    rest = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([package, rest] if rest else [package])}
