"""The load generator: one thread of wrk, its text output read into numbers."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
_REQUESTS = re.compile(r"^\s*(\d+) requests in ([\d.]+)(us|ms|s|m|h),", re.MULTILINE)
_RATE = re.compile(r"^Requests/sec:\s*([\d.]+)", re.MULTILINE)
_PERCENTILE = re.compile(r"^\s*(50|99)%\s+([\d.]+)(us|ms|s|m|h)\s*$", re.MULTILINE)
_NON_2XX = re.compile(r"^\s*Non-2xx or 3xx responses: (\d+)", re.MULTILINE)
_SOCKET = re.compile(r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", re.MULTILINE)


class WrkError(Exception):
    """wrk could not run or printed something else than its report; the text says what."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of wrk. Latencies in milliseconds; ``errors`` are failed connects, reads, writes and time-outs."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float
    non_2xx: int
    errors: int


def parse(text: str) -> Sample:
    """The report that ``wrk --latency`` prints. WrkError when something is missing from it."""
    requests, rate = _REQUESTS.search(text), _RATE.search(text)
    latency = {found[1]: float(found[2]) * _MS[found[3]] for found in _PERCENTILE.finditer(text)}
    if requests is None or rate is None or set(latency) != {"50", "99"}:
        raise WrkError(f"this is not a report of wrk --latency:\n{text.strip()[-500:]}")
    non_2xx, socket = _NON_2XX.search(text), _SOCKET.search(text)
    return Sample(
        requests=int(requests[1]),
        rate=float(rate[1]),
        p50_ms=latency["50"],
        p99_ms=latency["99"],
        non_2xx=int(non_2xx[1]) if non_2xx else 0,
        errors=sum(map(int, socket.groups())) if socket else 0,
    )


def run(url: str, *, seconds: int, connections: int, headers: dict[str, str], script: Path | None = None) -> Sample:
    """Loads ``url`` for ``seconds`` from one thread over ``connections`` kept-alive ones, on the caller's core.
    ``script``: wrk's Lua, which makes each request."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    if script is not None:
        argv += ["-s", str(script)]
    for name, value in headers.items():
        argv += ["-H", f"{name}: {value}"]
    done = subprocess.run([*argv, url], capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise WrkError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    return parse(done.stdout)
