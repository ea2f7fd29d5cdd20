"""``python -m tests.fuzz [--inputs N] [--seconds S] [--seed N] [requests] [replies]``: until done, or a fault."""

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
from tests.fuzz.running import memory_lane

_PER_LANE = 20_000  # inputs before a fresh sidecar, so that journal and ledger stay small


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("kinds", nargs="*", default=["requests", "replies"])
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    rng, began, done = random.Random(seed), time.monotonic(), 0
    while done < options.inputs and time.monotonic() - began < options.seconds:
        count = min(_PER_LANE, options.inputs - done)
        with (
            tempfile.TemporaryDirectory() as folder,
            asyncio.Runner() as runner,
            memory_lane(runner, Path(folder)) as lane,
        ):
            for _ in range(count):
                if time.monotonic() - began >= options.seconds:
                    break
                kind = rng.choice(options.kinds)
                if not _try(lane, rng, kind):
                    return 1
                done += 1
        print(f"{done:,} inputs, {time.monotonic() - began:.0f} s, no fault", flush=True)
    return 0


def _try(lane: MemoryLane, rng: random.Random, kind: str) -> bool:
    data = some_requests(rng) if kind == "requests" else some_reply(rng)
    before = rng.getstate()
    try:
        one(lane, rng, kind, data)
    except Exception as error:
        rng.setstate(before)
        name = Path(__file__).parent / "corpus" / kind / f"{hashlib.sha256(data).hexdigest()[:12]}.http"
        name.write_bytes(data)
        traceback.print_exception(error, limit=-2)
        print(f"kept as {name}", file=sys.stderr)
        return False
    return True


sys.exit(main())
