"""A sidecar whose sockets are memory, for as long as a ``with`` lasts."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fuzz.memory import MemoryLane
from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Options, start_rig

_OPTIONS = Options(upstream="max_connections: 64\n    breaker: {failures: 10_000}", journal="segment: 1MiB, max: 64MiB")


@contextmanager
def memory_lane(runner: asyncio.Runner, folder: Path) -> Iterator[MemoryLane]:
    """The upstream's port is closed again before the first input: only connections in memory lead anywhere."""
    upstream = CruelUpstream()
    runner.run(upstream.start())
    runner.run(upstream.stop())
    rig = runner.run(start_rig(folder, upstream, _OPTIONS))
    try:
        yield MemoryLane(rig, runner.get_loop())
    finally:
        runner.run(rig.stop())
