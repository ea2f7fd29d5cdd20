"""What the sidecar holds: its RSS at rest, and with many clients that are connected and silent."""

import resource
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import probe, procfs, under_test
from benchmarks.nginx import json_reply, start_upstream
from benchmarks.report import MIB, Mark, Part, format_mib
from benchmarks.stage import Failed, Stage, free_port

CLIENTS = 10_000
_IDLE_MIB, _CLIENTS_MIB = 70, 200
_SPARE_FILES = 512  # descriptors that either process needs besides the clients' sockets
_SETTLE_SECONDS = 2.0
_PER_ADDRESS = 4_000  # below any usual bound on connections per client address


def measure(stage: Stage, say: Callable[[str], None]) -> Part:
    """Starts the sidecar, lets it rest, opens the clients, each of which has made one call, and reads its RSS."""
    upstream = free_port()
    start_upstream(stage, "upstream", upstream, json_reply(400), on_load_core=True)
    sidecar = under_test.start(stage, "sidecar", upstream)
    time.sleep(_SETTLE_SECONDS)
    idle = procfs.rss_bytes(sidecar.process.pid)
    say(f"  idle: {format_mib(idle)}")
    marks = [Mark("RSS idle", format_mib(idle), f"at most {_IDLE_MIB} MiB", idle <= _IDLE_MIB * MIB)]
    rows = [("idle, after one call", format_mib(idle), "")]
    lines: list[str] = []
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < CLIENTS + _SPARE_FILES:
        lines.append(f"{CLIENTS:,} clients: skipped: needs {CLIENTS + _SPARE_FILES} open files, the limit is {files}")
        return _part(rows, lines, marks, {"idle_bytes": idle})
    with ExitStack() as clients:
        crowd = _with_clients(sidecar, clients)
    say(f"  {CLIENTS:,} clients: {format_mib(crowd)}")
    each = (crowd - idle) / CLIENTS / 1024
    rows.append((f"{CLIENTS:,} idle client connections, each after one call", format_mib(crowd), f"{each:.1f} KiB"))
    asked = f"at most {_CLIENTS_MIB} MiB"
    marks.append(Mark(f"RSS with {CLIENTS:,} idle clients", format_mib(crowd), asked, crowd <= _CLIENTS_MIB * MIB))
    return _part(rows, lines, marks, {"idle_bytes": idle, "clients": CLIENTS, "clients_bytes": crowd})


def _with_clients(sidecar: under_test.Sidecar, clients: ExitStack) -> int:
    files = procfs.open_files(sidecar.process.pid)
    request = f"GET {probe.PATH} HTTP/1.1\r\nHost: bench\r\n{probe.HEADER}: {sidecar.key}\r\n\r\n".encode()
    for number in range(CLIENTS):
        source = (f"127.0.0.{2 + number // _PER_ADDRESS}", 0)
        client = clients.enter_context(socket.create_connection(("127.0.0.1", sidecar.port), 10, source_address=source))
        client.sendall(request)
        if not client.recv(4096).startswith(b"HTTP/1.1 200"):
            raise Failed(f"client {number + 1} of {CLIENTS} was not answered with 200")
    time.sleep(_SETTLE_SECONDS)
    held = procfs.open_files(sidecar.process.pid) - files
    if held < CLIENTS:
        raise Failed(f"of {CLIENTS} clients the sidecar still holds {held}")
    return procfs.rss_bytes(sidecar.process.pid)


def _part(rows: list[tuple[str, str, str]], lines: list[str], marks: list[Mark], raw: dict[str, int]) -> Part:
    intro = "resident memory of the sidecar's process, two seconds after the last call."
    return Part("Memory", intro, ("state", "RSS", "per client"), tuple(rows), tuple(lines), tuple(marks), dict(raw))
