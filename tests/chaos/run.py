"""A run: books one after the other, each with its store and durability, faults at random, and the last line."""

import asyncio
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import redis
from tests.chaos.books import Verdict
from tests.chaos.fault import Fault
from tests.chaos.faults import FAULTS
from tests.chaos.process import Broken
from tests.chaos.stage import Plan, Stage
from tests.chaos.store import Store

_PER_BOOK = 44  # faults
_PER_CHECK = 15
_BETWEEN_S = (0.05, 1.6)
# The first book is of the default; later ones draw.
_DURABILITY = ("process", "process", "process", "process", "group", "sync")


@dataclass(slots=True)
class Summary:
    """What a run did and found."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    answers: int = 0
    ran: int = 0
    events: int = 0
    indeterminate: int = 0
    in_flight: int = 0
    lost: int = 0
    doubled: int = 0
    unearned: int = 0
    disks: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """A finished book."""
        for name in ("answers", "ran", "events", "indeterminate", "in_flight", "lost", "doubled", "unearned"):
            setattr(self, name, getattr(self, name) + getattr(verdict, name))

    def line(self) -> str:
        """The last line."""
        kinds = ", ".join(f"{name} {count:,}" for name, count in self.faults.most_common())
        disks = f" (disk full by {', '.join(sorted(self.disks))})" if self.disks and self.faults["disk full"] else ""
        sums = "sums equal events" if not self.violations else f"{len(self.violations)} VIOLATIONS"
        return (
            f"chaos: {self.faults.total():,} faults ({kinds}){disks}, {self.answers:,} answers seen whole, "
            f"{self.ran:,} calls ran, {self.events:,} events in the ledger, {self.indeterminate:,} indeterminate of "
            f"{self.in_flight:,} in flight at the kills, {self.lost:,} lost, {self.doubled:,} doubled, "
            f"{self.unearned:,} billed without running, {sums} in {self.checks} comparisons; seed {self.seed}"
        )


class Run:
    """``kills`` faults within ``seconds``, over ``stores`` in turn; everything random comes from ``seed``."""

    def __init__(
        self,
        folder: Path,
        stores: Sequence[Callable[[], Store]],
        *,
        seed: int,
        kills: int,
        seconds: float,
        only: Sequence[str] = (),
        durability: Sequence[str] = _DURABILITY,
        between_s: tuple[float, float] = _BETWEEN_S,
        say: Callable[[str], None] = print,
    ) -> None:
        self._folder = folder
        self._stores = stores
        self._rng = random.Random(seed)
        self._kills = kills
        self._deadline = time.monotonic() + seconds
        self._only = frozenset(only)
        self._redis = any(fault.name in only for fault in redis.REDIS_FAULTS)
        self._durability = durability
        self._between_s = between_s
        self._say = say
        self.summary = Summary(seed)

    async def play(self) -> Summary:
        """All books. A book with a violation ends the run; its folder is the evidence."""
        number = 0
        while not self._over and not self.summary.violations:
            store = self._stores[number % len(self._stores)]()
            durability = self._durability[0] if number == 0 else self._rng.choice(self._durability)
            shared = redis.installed() and (self._redis or number % 3 != 0)  # so that each store gets both
            workers = 2 if "kill_worker" in self._only or number % 4 >= 2 else 1
            plan = Plan(durability, real_disk=durability != "process", shared=shared, workers=workers)
            await self._book(number, store, plan)
            number += 1
        return self.summary

    @property
    def _over(self) -> bool:
        return self.summary.faults.total() >= self._kills or time.monotonic() >= self._deadline

    async def _book(self, number: int, store: Store, plan: Plan) -> None:
        summary = self.summary
        parts = f"{'-redis' * plan.shared}{'-workers' * (plan.workers > 1)}"
        folder = self._folder / f"{number:02d}-{store.name}{parts}-{plan.durability}"
        folder.mkdir(parents=True)
        stage = Stage(folder, store, plan, self._rng)
        if stage.disk is not None:
            summary.disks.add(stage.disk.words)
        verdict: Verdict | None = None
        try:
            await stage.open()
            verdict = await self._break(stage, folder.name)
        except Broken as broken:
            stage.violations.append(str(broken))
        finally:
            summary.violations += [f"{folder.name}: {text}" for text in stage.violations]
            if verdict is not None:
                summary.add(verdict)
                summary.violations += [f"{folder.name}: {text}" for text in verdict.violations]
            await stage.close(keep=bool(summary.violations))
        if not summary.violations:
            shutil.rmtree(folder)

    async def _break(self, stage: Stage, name: str) -> Verdict:
        summary, done, last = self.summary, 0, 0
        known = (*FAULTS, *redis.REDIS_FAULTS, *stage.store.faults)
        faults = [fault for fault in known if fault.allows(stage) and (not self._only or fault.name in self._only)]
        while True:
            await asyncio.sleep(self._rng.uniform(*self._between_s))
            stage.watch()
            made = await self._pick(faults).act(stage)
            summary.faults.update(made)
            done += sum(made.values())
            over = self._over or done >= _PER_BOOK or bool(stage.violations)
            if over or done - last >= _PER_CHECK:
                last = done
                verdict = await stage.check(resume=not over)
                summary.checks += 1
                over = over or bool(verdict.violations)
                self._say(
                    f"{name}: {done} faults, {verdict.answers:,} answers seen whole, {verdict.events:,} events, "
                    f"{verdict.indeterminate} indeterminate of {verdict.in_flight}, "
                    f"{len(verdict.violations) + len(stage.violations)} violations"
                )
                if over:
                    return verdict

    def _pick(self, faults: list[Fault]) -> Fault:
        return self._rng.choices(faults, [fault.weight for fault in faults])[0]
