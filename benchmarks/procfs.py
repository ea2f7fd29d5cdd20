"""What Linux says about processes and the machine, read from /proc; no dependency."""

import os
import platform
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_QUIET_SHARE = 0.05  # of a core: a server below it has finished what the load left behind
_QUIET_SECONDS = 0.25
_SETTLE_SECONDS = 60.0


def tree(pid: int) -> list[int]:
    """The process and all its descendants that are alive; empty when it is gone."""
    if not (_PROC / str(pid)).exists():
        return []
    found = [pid]
    for task in _tasks(pid):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found.extend(tree(int(child)))
    return found


def rss_bytes(pid: int) -> int:
    """Resident memory of the process and its descendants; pages that they share count once for each."""
    return sum(_status_kib(member, "VmRSS:") for member in tree(pid)) * 1024


def cpu_seconds(pid: int) -> float:
    """User and system time that the process and its living descendants have used."""
    return sum(_cpu_ticks(member) for member in tree(pid)) / _TICKS


def settle(pid: int) -> float:
    """Waits, a minute at most, until the process is quiet, so that what it left for later does not fall into another
    one's turn. Seconds that it was busy."""
    start = time.monotonic()
    while time.monotonic() - start < _SETTLE_SECONDS:
        before = cpu_seconds(pid)
        time.sleep(_QUIET_SECONDS)
        if (cpu_seconds(pid) - before) / _QUIET_SECONDS < _QUIET_SHARE:
            return time.monotonic() - start - _QUIET_SECONDS
    return _SETTLE_SECONDS


def machine_cpu_seconds() -> float:
    """CPU time that all processes together have used since boot."""
    user, nice, system = (_PROC / "stat").read_text().split(maxsplit=4)[1:4]
    return (int(user) + int(nice) + int(system)) / _TICKS


def open_files(pid: int) -> int:
    """How many descriptors the process and its descendants hold open."""
    return sum(len(list((_PROC / str(member) / "fd").iterdir())) for member in tree(pid))


def machine() -> str:
    """One line that names the machine: processor, cores, memory, kernel."""
    model = "unknown processor"
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = " ".join(line.split(":", 1)[1].split())
            break
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    release = ".".join(platform.release().split("-")[0].split(".")[:2])
    return f"{model}, {os.cpu_count()} cores, {gib:.0f} GiB, Linux {release}, Python {platform.python_version()}"


def _tasks(pid: int) -> list[Path]:
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def _status_kib(pid: int, field: str) -> int:
    try:
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def _cpu_ticks(pid: int) -> int:
    try:
        # The command name stands in brackets and may hold spaces and brackets itself; fields count from after it.
        after_name = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(after_name[11]) + int(after_name[12])
