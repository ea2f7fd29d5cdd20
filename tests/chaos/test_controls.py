"""Negative controls: a proof that cannot fail proves nothing. Each broken sidecar must be found out, every time."""

import asyncio
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.core.ports import UsageReport, UsageTotals
from sidecar.core.records import UsageRecord
from tests.chaos.books import LedgerBook, Verdict, judge
from tests.chaos.load import Answer, ClientBook
from tests.chaos.sqlite import Sqlite
from tests.chaos.stage import Plan, Stage

_CALLS = 40


async def verdict_on(how: str, folder: Path, *, dies: bool) -> Verdict:
    """A short life with the broken sidecar, which ``dies`` by its own hand; then a sound one takes over and ends."""
    stage = Stage(folder, Sqlite(), Plan(callers=4, rate=400, real_disk=True), random.Random(5))
    try:
        await stage.open(load=False)
        await stage.stop()
        stage.break_with((sys.executable, "-m", "tests.chaos.broken", how), {"CHAOS_CALLS": str(_CALLS)})
        await stage.start()
        stage.begin()
        if dies:
            async with asyncio.timeout(30):
                while stage.sidecar.pid is not None:
                    await asyncio.sleep(0.01)
            stage.load.book.killed()
        else:
            async with asyncio.timeout(30):
                while len(stage.load.book.answers) < _CALLS:
                    await asyncio.sleep(0.01)
        if dies:
            stage.mend()
        return await stage.check(resume=False)
    finally:
        await stage.close()


@pytest.mark.parametrize("how", ["done-late", "both-late"])
async def test_a_journal_that_is_written_after_the_reply_is_found_out(tmp_path: Path, how: str) -> None:
    verdict = await verdict_on(how, tmp_path, dies=True)
    assert verdict.lost >= 1
    assert "an answer seen whole is not in the ledger as it was seen" in " ".join(verdict.violations)


async def test_a_ledger_without_dedupe_is_found_out(tmp_path: Path) -> None:
    verdict = await verdict_on("no-dedupe", tmp_path, dies=False)
    assert verdict.unearned >= 1
    assert "a call that did not run is billed" in " ".join(verdict.violations)


async def test_sums_that_count_a_batch_twice_are_found_out(tmp_path: Path) -> None:
    verdict = await verdict_on("soft-sums", tmp_path, dies=False)
    assert "sums differ from the events" in " ".join(verdict.violations)
    assert (verdict.lost, verdict.doubled, verdict.unearned) == (0, 0, 0)


# The comparison itself, on books of one call --------------------------------------------------------------------------

EVENT = UsageRecord(
    "e1", 60_000_000, "acme", "k", "p", False, "r", "GET", 200, "ok", 1, 5, 0, 9, 30, 20, 10, {"requests": 1}
)
SEEN = Answer(1, "e1", 200, True, 0, 9, "acme", False)


def book(*events: UsageRecord) -> LedgerBook:
    report = UsageReport("acme", 0, 60_000_000, UsageTotals(), {}, {}, {}, {}, UsageTotals(), 0)
    return LedgerBook(list(events), [], [], [report], 0)


def cases() -> Iterator[tuple[str, ClientBook, list[tuple[str, int]], LedgerBook]]:
    ran = [("e1", 1)]
    yield "seen whole is not in the ledger", ClientBook([SEEN]), ran, book()
    yield "seen whole is not in the ledger", ClientBook([SEEN]), ran, book(replace(EVENT, status=500))
    yield "seen whole is not in the ledger", ClientBook([SEEN]), ran, book(replace(EVENT, bytes_out=8))
    yield "seen whole is not in the ledger", ClientBook([SEEN]), ran, book(replace(EVENT, outcome="indeterminate"))
    yield "a call that ran is not in the ledger", ClientBook(), ran, book()
    yield "more than once", ClientBook([SEEN]), ran, book(EVENT, EVENT)
    yield "did not run is billed", ClientBook(), [], book(EVENT)
    yield "although its answer was seen whole", ClientBook([SEEN]), ran, book(replace(EVENT, outcome="indeterminate"))
    yield "a refusal of the sidecar is billed", ClientBook([replace(SEEN, ran=False, status=503)]), ran, book(EVENT)
    yield "which knows nothing of it", ClientBook([SEEN]), [], book(EVENT)
    yield "sums differ", ClientBook([SEEN]), ran, book(EVENT)
    yield "only 0 were in flight", ClientBook(unanswered={1}), ran, book(replace(EVENT, outcome="indeterminate"))
    yield "malformed", ClientBook([SEEN]), ran, replace(book(EVENT), rejected=1)


@pytest.mark.parametrize(("words", "client", "upstream", "ledger"), list(cases()))
def test_every_invariant_can_fail(
    words: str, client: ClientBook, upstream: list[tuple[str, int]], ledger: LedgerBook
) -> None:
    assert words in " ".join(judge(client, upstream, ledger, frozenset()).violations)
