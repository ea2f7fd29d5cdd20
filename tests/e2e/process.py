"""The real ``sidecar`` command as a child process, and the clients that talk to it."""

import http.client
import json
import queue
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, TypeVar

COMMAND = str(Path(sys.executable).with_name("sidecar"))
READY = re.compile(
    r"^sidecar: listening on (https?://\S+), protecting (\S+) \((http://[^)]+)\), admin on (http://\S+)$", re.MULTILINE
)
Found = TypeVar("Found")
PATIENCE_S = 90  # a bound on waiting for what must come, never an expectation of speed


class Sidecar:
    """One data folder, and a process on it while it runs. ``base`` and ``admin`` are known once it is ready."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.words = words
        self.base = self.admin = self.ready_line = ""
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def errors(self) -> str:
        """What the process wrote on stderr so far."""
        return (self.folder / "stderr").read_text()

    def launch(self, *more: str) -> None:
        """Starts the process without waiting for it."""
        command = [COMMAND, "run", "--data", str(self.data), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        with (self.folder / "stderr").open("w") as errors:
            self._process = subprocess.Popen(
                [*command, *self.words, *more],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True, args=(self._process, self._lines)).start()

    def start(self, *more: str) -> "Sidecar":
        """Starts the process and returns once it has said where it listens."""
        self.launch(*more)
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            if match := READY.match(line):
                self.ready_line = line
                self.base, self.admin = match[1], match[4]
                return self
        raise AssertionError(f"no ready line, exit {self.wait()}: {self.errors}")

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(PATIENCE_S + 30)

    def terminate(self) -> None:
        assert self._process is not None
        self._process.terminate()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.terminate()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, at once."""
        assert self._process is not None
        self._process.kill()
        self.wait()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def cli(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A command on the same data folder; its exit code must be ``code``, and it must not show a traceback."""
        config = self.words[:2] if self.words[:1] == ("--config",) else ()
        done = command(*words, *config, "--data", str(self.data), cwd=self.folder)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def key(self, tenant: str, *words: str, plan: str = "scale") -> str:
        """A new tenant's first key."""
        self.cli("tenants", "add", tenant, "--plan", plan)
        return self.another_key(tenant, *words)

    def another_key(self, tenant: str, *words: str) -> str:
        return self.cli("keys", "create", tenant, "--name", "e2e", *words).stdout.strip()

    def usage(self, tenant: str, requests: int | None = None) -> dict[str, Any]:
        """``usage --json``; asked again, a bounded number of times, until it shows ``requests`` of them."""
        report: dict[str, Any] = {}
        for _ in range(20):
            report = json.loads(self.cli("usage", tenant, "--json").stdout)
            if requests is None or report["requests"] == requests:
                break
        return report

    def call(self, method: str, path: str, key: str | None = None, **more: Any) -> "Reply":
        return call(self.base, method, path, key, **more)

    @staticmethod
    def _read(process: subprocess.Popen[str], into: "queue.Queue[str | None]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                into.put(line.rstrip("\n"))
        into.put(None)


@dataclass(frozen=True)
class Reply:
    """What came back. ``problem`` is the problem document, checked for its form."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    def problem(self) -> dict[str, Any]:
        assert self.headers["Content-Type"] == "application/problem+json"
        document = self.json()
        assert document["status"] == self.status
        assert {"type", "title", "detail", "code"} <= document.keys()
        return document


def command(*words: str, cwd: Path, code: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs ``sidecar WORDS``; no traceback may show, whatever happens."""
    done = subprocess.run(
        [COMMAND, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    if code is not None:
        assert done.returncode == code, done.stdout + done.stderr
    return done


def call(
    base: str,
    method: str,
    path: str,
    key: str | None = None,
    *,
    headers: dict[str, str] | None = None,
    body: Any = None,
    chunked: bool = False,
) -> Reply:
    """One request on a connection of its own."""
    connection = connect(base)
    try:
        sent = ({"X-API-Key": key} if key else {}) | (headers or {})
        connection.request(method, path, body, sent, encode_chunked=chunked)
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def until(ask: Callable[[], Found]) -> Found:
    """What ``ask`` says once that is true; asked again and again for a bounded time."""
    end = time.monotonic() + PATIENCE_S
    while not (found := ask()):
        assert time.monotonic() < end, f"at last {found!r}"
        time.sleep(0.05)
    return found


def connect(base: str) -> http.client.HTTPConnection:
    address = urllib.parse.urlsplit(base)
    return http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_S)


def open_socket(base: str) -> socket.socket:
    address = urllib.parse.urlsplit(base)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)


def raw(base: str, request: bytes) -> bytes:
    """Sends these bytes and reads until the sidecar closes the connection."""
    with open_socket(base) as client:
        client.sendall(request)
        parts = []
        try:
            while part := client.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)


def receive_until(client: socket.socket, mark: bytes) -> bytes:
    """Reads up to and including the piece that completes ``mark``."""
    received = b""
    while mark not in received:
        part = client.recv(65536)
        assert part, f"closed before {mark!r}: {received!r}"
        received += part
    return received


def write_config(folder: Path, target: str, policies: str, more: str = "") -> tuple[str, ...]:
    """A ``sidecar.yaml`` with one policy file in ``folder``; the words that select it."""
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "all.yaml").write_text(policies)
    file = folder / "sidecar.yaml"
    file.write_text(f"policies: policies/\nupstreams: {{api: {{targets: ['{target}']}}}}\n{more}")
    return ("--config", str(file))
