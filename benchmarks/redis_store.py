"""A Redis, and what it says of the scripts that it ran."""

import re
import socket
from pathlib import Path

from benchmarks.stage import Stage, free_port, program

_STATISTICS = re.compile(r"^cmdstat_evalsha:calls=(\d+),usec=(\d+)", re.MULTILINE)


def start(stage: Stage, name: str, *, on_load_core: bool = True) -> int:
    """Its port. Missing, Failed."""
    port = free_port()
    binary = program("redis-server", "install Redis (Debian: apt install redis-server)")
    argv: list[str | Path] = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    stage.start(name, argv, port=port, on_load_core=on_load_core)
    return port


def scripts(port: int) -> tuple[int, int]:
    """How many scripts it ran, and the microseconds that they took it in all."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(b"INFO commandstats\r\nQUIT\r\n")
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    found = _STATISTICS.search(text.replace("\r", ""))
    return (int(found[1]), int(found[2])) if found else (0, 0)
