"""Where a run takes place: a temporary folder, two cores, and the processes it started, which all end with it."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks import procfs

TEMPLATES = Path(__file__).parent / "peers"
_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")
_STOP_SECONDS = 15.0


class Missing(Exception):
    """Something that is measured is not installed; the text says how to get it."""


class Failed(Exception):
    """A server did not start, or did not do what it claims; the text says what happened."""


@dataclass(frozen=True, slots=True)
class Process:
    """A server that was started: its name, its root process and where its output goes."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def tail(self) -> str:
        """The last lines of its output, for messages."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-8:]) or "(it printed nothing)"


class Stage:
    """Starts servers pinned to the server core; the caller and all else run on the load core.

    Leaving the ``with`` block ends every process by its id and removes the folder, whatever happened inside.
    """

    def __init__(self) -> None:
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise Missing("two cores are needed: one for the server under test, one for the load and the upstream")
        self._before = set(allowed)
        self.load_core, self.server_core = allowed[0], allowed[1]
        self._processes: list[Process] = []

    def __enter__(self) -> "Stage":
        self.folder = Path(tempfile.mkdtemp(prefix="sidecar-bench-"))
        os.sched_setaffinity(0, {self.load_core})
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with _signals_held():
            for process in reversed(self._processes):
                _end(process.popen)
            os.sched_setaffinity(0, self._before)
            shutil.rmtree(self.folder, ignore_errors=True)

    def room(self, name: str) -> Path:
        """A fresh folder for one server."""
        folder = self.folder / name
        folder.mkdir()
        return folder

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        port: int,
        on_load_core: bool = False,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        seconds: float = 15.0,
    ) -> Process:
        """Starts a server and waits until ``port`` accepts. Failed, with the end of its output, when it does not."""
        process = self.spawn(name, argv, on_load_core=on_load_core, cwd=cwd, env=env)
        self.wait(process, lambda: accepts(port), seconds=seconds, what=f"port {port} to accept connections")
        return process

    def spawn(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        on_load_core: bool = False,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Starts a process on its core, in its own session so that Ctrl-C reaches it through this class alone."""
        log = self.folder / f"{name}-{len(self._processes)}.log"
        with log.open("wb") as output, _pinned(self.load_core if on_load_core else self.server_core):
            popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd or self.folder,
                env=dict(os.environ) | dict(env or {}),
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self._processes.append(process)
        return process

    def wait(self, process: Process, ready: Callable[[], bool], *, seconds: float, what: str) -> float:
        """Seconds until ``ready()`` was true, looking every 2 ms. Failed when the process ends or the time is up."""
        start = time.monotonic()
        while not ready():
            if process.popen.poll() is not None:
                raise Failed(f"{process.name} ended with {process.popen.returncode} at its start:\n{process.tail()}")
            if time.monotonic() - start > seconds:
                raise Failed(f"{process.name}: waited {seconds:.0f} s for {what}:\n{process.tail()}")
            time.sleep(0.002)
        return time.monotonic() - start

    def cpu_seconds(self) -> float:
        """CPU time used by this process, by the children it has waited for, and by every server it started."""
        spent = os.times()
        own = spent.user + spent.system + spent.children_user + spent.children_system
        return own + sum(procfs.cpu_seconds(process.pid) for process in self._processes)

    def stop(self, process: Process) -> None:
        """Ends one server before the run does."""
        _end(process.popen)
        self._processes.remove(process)


def render(template: Path, **values: object) -> str:
    """The template with each ``@NAME@`` replaced. KeyError names a placeholder that has no value."""
    texts = {name.upper(): str(value) for name, value in values.items()}
    return _PLACEHOLDER.sub(lambda found: texts[found[1]], template.read_text())


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str, how_to_get: str, *, variable: str | None = None) -> Path:
    """Where ``name`` is: by ``variable``, beside this Python, on PATH, or where Debian keeps daemons. Missing."""
    named = os.environ.get(variable, "") if variable else ""
    if named:
        if shutil.which(named) is None:
            raise Missing(f"{variable} names {named}, which is not a program")
        return Path(named)
    # The interpreter's path is not resolved: in a virtual environment the scripts are beside the link, not its target.
    places = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    )
    found = shutil.which(name, path=places)
    if found is None:
        raise Missing(how_to_get)
    return Path(found)


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    """Children started in this block inherit the affinity to ``core``: no code runs between fork and exec."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _signals_held() -> Iterator[None]:
    """A second Ctrl-C must not leave servers behind."""
    ending = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(popen: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the root process; whoever of its tree is still there after that is killed."""
    members = procfs.tree(popen.pid) if popen.poll() is None else []
    if popen.poll() is None:
        popen.terminate()
        try:
            popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
    for pid in members[1:]:
        _kill_when_of_session(pid, popen.pid)


def _kill_when_of_session(pid: int, session: int) -> None:
    # A process id may have been given to a stranger since; the session id is still that of the server's root.
    try:
        if os.getsid(pid) == session:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
