"""The processes of a run, each ended by its id: the upstream, and the sidecar that is killed again and again."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

COMMAND = (str(Path(sys.executable).with_name("sidecar")),)
ROOT = Path(__file__).parents[2]
_READY = re.compile(rb"^sidecar: listening on ")
_START_S = 60.0  # bounds on waiting for what must come
_STOP_S = 40.0
_LOOK_S = 0.005


class Broken(Exception):
    """The run cannot go on, or a process did what it must never do; the text says which."""


class SidecarProcess:
    """``sidecar run`` on one data folder and one port; ``command`` replaces the program, for the negative controls."""

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        *,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = dict(environment or {})
        self._command = (*command, "run", *words)
        self._log = log
        self._said = log.with_suffix(".stdout")
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """While it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def workers(self) -> list[psutil.Process]:
        """The parent's children, where there are several workers."""
        try:
            return psutil.Process(self.pid).children() if self.pid is not None else []
        except psutil.NoSuchProcess:
            return []

    def launch(self) -> None:
        """Starts the process and does not wait for it."""
        with self._log.open("ab") as log, self._said.open("wb") as said:
            log.write(b"--- start %d\n" % self.starts)
            log.flush()
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
                env=_environment() | self._environment,
            )
        self.starts += 1

    async def ready(self, patience_s: float = _START_S) -> bool:
        """Whether it listens; False once it has ended, or when it took too long."""
        deadline = time.monotonic() + patience_s
        while not _READY.match(self._said.read_bytes()):
            if self.pid is None or time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it still runs."""
        if self._process is not None:
            self._process.send_signal(number)

    async def ended(self, patience_s: float = _STOP_S) -> int:
        """Waits for its end; the exit code. Broken when it does not end."""
        assert self._process is not None
        deadline = time.monotonic() + patience_s
        while (code := self._process.poll()) is None:
            if time.monotonic() > deadline:
                raise Broken(f"the sidecar did not end within {patience_s:.0f} s")
            await asyncio.sleep(_LOOK_S)
        return code

    async def kill(self) -> None:
        """SIGKILL, at once, also when it is stopped."""
        if self._process is not None:
            self._process.kill()
            await self.ended()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}


class UpstreamProcess:
    """``tests.chaos.upstream`` on a port; it is never killed before the end."""

    def __init__(self, port: int, log: Path) -> None:
        self._words = (sys.executable, "-m", "tests.chaos.upstream", str(port), str(log))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it listens."""
        self._process = subprocess.Popen(
            self._words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=_environment()
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise Broken("the upstream did not start")

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def run_command(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """``sidecar WORDS``, to its end."""
    return subprocess.run(
        [*COMMAND, *words], cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=60, check=False
    )
