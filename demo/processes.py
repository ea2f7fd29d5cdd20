"""Starting a program, waiting for the line that says it is ready, and ending it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
READY_S = 30


class Failed(Exception):
    """A program of the demo did not do its part; the text says which and what it said."""


class Program:
    """A child process in a group of its own, so that Ctrl-C reaches the demo alone and the demo ends it in order.

    Everything it prints goes to ``log``; ``ready`` is the match of the line that it printed when it was ready.
    """

    def __init__(self, name: str, command: list[str], ready: str, log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self._log = log
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._pattern = re.compile(ready)
        self._found = threading.Event()
        self._match: re.Match[str] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ready(self) -> re.Match[str]:
        """Waits for the ready line. Failed when the program ended or stayed silent."""
        self._found.wait(READY_S)
        if self._match is None:
            said = self._log.read_text().strip() if self._log.exists() else ""
            raise Failed(f"{self.name} did not start.\n{said}")
        return self._match

    def wait(self) -> int:
        return self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and SIGKILL after 40 s (the sidecar drains for 30 s at most). Returns the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(40)
            except subprocess.TimeoutExpired:
                self._process.kill()
        code = self._process.wait()
        self._reader.join(5)
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines, self._log.open("w") as log:
            for line in lines:
                log.write(line)
                log.flush()
                if self._match is None and (match := self._pattern.search(line)):
                    self._match = match
                    self._found.set()
        self._found.set()


def sidecar(*words: str) -> list[str]:
    """The command line of the installed ``sidecar`` command."""
    return [str(Path(sys.executable).with_name("sidecar")), *words]


def run(command: list[str], environment: dict[str, str]) -> str:
    """What the command prints. Failed when it fails."""
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=READY_S
    )
    if done.returncode:
        raise Failed(f"`{' '.join(command[1:])}` ended with {done.returncode}:\n{done.stdout}{done.stderr}".strip())
    return done.stdout


def free_port(wanted: int, what: str) -> int:
    """``wanted``, or any that is free after saying that this one is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            print(f"Port {wanted} is taken, so {what} gets another one.")
        else:
            return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
