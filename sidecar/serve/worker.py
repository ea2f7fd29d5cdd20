"""One worker process, started by its parent alone: ``python -m sidecar.serve.worker LINK SOCKETS``.

It ends when the parent says so or is gone, or on SIGTERM; SIGINT is the parent's, who tells the workers.
"""

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

import uvloop

from sidecar.app import join, serve
from sidecar.core.errors import SidecarError
from sidecar.serve import tuning


def main(arguments: list[str]) -> int:
    """The exit code."""
    link, groups = Path(arguments[0]), json.loads(arguments[1])
    tuning.begin("worker %(process)d %(name)s")
    try:
        uvloop.run(_work(link, groups))
    except (SidecarError, OSError, ValueError) as error:
        logging.getLogger("sidecar").error("the worker cannot start: %s", error)
        return 1
    return 0


async def _work(link: Path, groups: list[list[int]]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    for name in (signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(name, lambda: None)
    worker, channel = await join(link, groups, stop)
    await serve(worker, channel, stop, tuning.settle)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
