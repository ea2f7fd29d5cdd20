"""``python -m tests.chaos``: see docs/chaos.md."""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.redis import REDIS_FAULTS
from tests.chaos.run import Run, Summary
from tests.chaos.stores import STORES, choose


def main() -> int:
    """0: nothing was violated; 1: something was; 3: fewer faults than asked for fitted into the time; 130: a signal."""
    options = _options()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"chaos: seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="sidecar-chaos-"))
    run = Run(
        folder,
        choose(options.store),
        seed=seed,
        kills=options.kills,
        seconds=options.seconds,
        only=options.only,
        say=lambda text: print(text, flush=True),
    )
    try:
        summary = asyncio.run(_to_its_end(run))
    except (asyncio.CancelledError, KeyboardInterrupt):
        shutil.rmtree(folder, ignore_errors=True)
        print("chaos: ended by a signal, nothing was compared to its end")
        return 130
    for text in summary.violations:
        print(f"VIOLATION {text}")
    if summary.violations:
        print(f"the evidence is in {folder}: client.log, upstream.log, sidecar.log, data")
    else:
        shutil.rmtree(folder)
    print(summary.line())
    if summary.violations:
        return 1
    return 0 if summary.faults.total() >= options.kills else 3


async def _to_its_end(run: Run) -> Summary:
    """SIGTERM ends a run as Ctrl-C does: every process is ended, and the disk is unmounted."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run.play()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kills the sidecar and compares books.")
    parser.add_argument("--kills", type=int, default=210, help="faults to make (210)")
    parser.add_argument("--seconds", type=float, default=900, help="at most so long (900)")
    parser.add_argument("--seed", type=int, help="what everything random comes from (default: a new one, printed)")
    parser.add_argument("--store", choices=(*STORES, "both"), default="both", help="both: in turn, as far as installed")
    names = sorted(
        {fault.name for fault in (*FAULTS, *REDIS_FAULTS)} | {f.name for kind in STORES.values() for f in kind.faults}
    )
    parser.add_argument("--only", nargs="+", choices=names, default=[], help="only these kinds of faults")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
