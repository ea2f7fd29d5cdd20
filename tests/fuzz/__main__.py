"""``python -m tests.fuzz [--inputs N] [--seconds S] [--seed N] [--lane SHARE]``: until done, or the first fault.

Of every hundred inputs ``SHARE`` (20) go through the whole lane, the others through its two readers alone.
"""

import argparse
import asyncio
import hashlib
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.checking import one
from tests.fuzz.generating import some_reply, some_requests
from tests.fuzz.memory import MemoryLane
from tests.fuzz.parsing import parse_replies, parse_requests
from tests.fuzz.running import memory_lane

_PER_LANE = 50_000  # inputs before a fresh sidecar, so that journal and ledger stay small


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--lane", type=int, default=20)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    rng, began, done, through = random.Random(seed), time.monotonic(), 0, 0
    while done < options.inputs and time.monotonic() - began < options.seconds:
        with (
            tempfile.TemporaryDirectory() as folder,
            asyncio.Runner() as runner,
            memory_lane(runner, Path(folder)) as lane,
        ):
            for _ in range(min(_PER_LANE, options.inputs - done)):
                if time.monotonic() - began >= options.seconds:
                    break
                whole = rng.randrange(100) < options.lane
                if not _holds(lane if whole else None, rng):
                    return 1
                done += 1
                through += whole
        took = time.monotonic() - began
        print(f"{done:,} inputs, {through:,} of them through the lane, {took:.0f} s, no fault", flush=True)
    return 0


def _holds(lane: MemoryLane | None, rng: random.Random) -> bool:
    """One input; what fails is kept in the corpus."""
    kind = rng.choice(("requests", "replies"))
    data = some_requests(rng) if kind == "requests" else some_reply(rng)
    try:
        if lane is not None:
            one(lane, rng, kind, data)
        else:
            (parse_requests if kind == "requests" else parse_replies)(rng, data)
    except Exception as error:
        name = Path(__file__).parent / "corpus" / kind / f"{hashlib.sha256(data).hexdigest()[:12]}.http"
        name.write_bytes(data)
        traceback.print_exception(error, limit=-2)
        print(f"kept as {name}", file=sys.stderr)
        return False
    return True


sys.exit(main())
