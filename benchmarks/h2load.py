"""A load at a fixed rate: h2load of nghttp2, which can keep one; wrk only goes as fast as it can."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


class H2loadError(Exception):
    """h2load could not run; the text says what it said."""


@dataclass(frozen=True, slots=True)
class Paced:
    """One run. Latencies in milliseconds; ``failed``: requests that were not answered with 2xx."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def read(log: str, seconds: int) -> Paced:
    """What ``--log-file`` holds: a line per request of its start, status and microseconds, separated by tabs.
    H2loadError when there is none."""
    rows = [line.split("\t") for line in log.splitlines() if line]
    if not rows:
        raise H2loadError("h2load logged no request")
    took = sorted(int(row[2]) for row in rows)
    failed = sum(not row[1].startswith("2") for row in rows)
    return Paced(len(rows) / seconds, took[len(took) // 2] / 1000, took[len(took) * 99 // 100] / 1000, failed)


def run(url: str, *, rate: float, seconds: int, connections: int, headers: dict[str, str], log: Path) -> Paced:
    """Loads ``url`` with ``rate`` requests per second in all, spread evenly over ``connections`` kept-alive ones."""
    argv = ["h2load", "--h1", "-t1", f"-c{connections}", f"-D{seconds}", f"--rps={rate / connections:.2f}"]
    argv += [f"--log-file={log}", *(f"--header={name}: {value}" for name, value in headers.items()), url]
    log.unlink(missing_ok=True)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise H2loadError(f"h2load ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    return read(log.read_text(), seconds)
