"""``python -m demo.behind SECONDS --data FOLDER``: the demo's sidecar, with a clock that is so many seconds behind.

A minute of usage is asked for when it is three minutes old. The demo's calls are made three minutes ago, so that
nobody has to wait for that.
"""

import argparse
import sys
import time
from pathlib import Path

from sidecar.config import Overrides
from sidecar.serve import run


class BehindClock:
    """A wall clock that is behind; durations are the machine's."""

    monotonic_ns = staticmethod(time.monotonic_ns)

    def __init__(self, behind_s: int) -> None:
        self._behind_ns = behind_s * 1_000_000_000

    def wall_ns(self) -> int:
        return time.time_ns() - self._behind_ns


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.behind", description=__doc__)
    parser.add_argument("seconds", type=int)
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    return run(Path("demo/sidecar.yaml"), Overrides(data=given.data), clock=BehindClock(given.seconds))


if __name__ == "__main__":
    sys.exit(main())
