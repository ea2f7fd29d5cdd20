"""The short form of `make chaos`: some kills on one book, then the comparison."""

from pathlib import Path

from tests.chaos.run import Run
from tests.chaos.sqlite import Sqlite


async def test_kills_lose_double_and_invent_nothing(tmp_path: Path) -> None:
    """Promises 1 and 2; field-bugs 22 (getlago/lago#538, openmeterio/openmeter#5118)."""
    run = Run(
        tmp_path,
        [Sqlite],
        seed=11,
        kills=8,
        seconds=300,  # a bound: on an idle machine it takes 20
        durability=("process",),
        between_s=(0.05, 0.5),
    )
    summary = await run.play()
    print(summary.line())
    assert summary.violations == []
    assert summary.faults.total() >= 8
    assert summary.answers > 50 and summary.events > 50
    assert (summary.lost, summary.doubled, summary.unearned) == (0, 0, 0)
