"""The sidecar as the benchmarks start it: its console script, the files in ``sidecar/``, two tenants, two keys."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks import probe
from benchmarks.stage import Failed, Process, Stage, free_port, program

CONFIG = Path(__file__).parent / "sidecar"
_HOW = "install the project (make, or pip install -e .)"
_LEDGER_SECONDS = 120.0  # how long the ledger may take to catch up with the journal before its count is read


@dataclass(frozen=True, slots=True)
class Site:
    """A configuration and a data folder of a sidecar that need not run; ``key`` belongs to the wide plan."""

    folder: Path
    key: str
    tiny_key: str

    @property
    def config(self) -> Path:
        return self.folder / "sidecar.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "data"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar that runs. ``ready_seconds``: from its start to its first reply to a real request with a key."""

    process: Process
    site: Site
    port: int
    admin: int
    ready_seconds: float

    @property
    def key(self) -> str:
        return self.site.key

    @property
    def tiny_key(self) -> str:
        return self.site.tiny_key

    def confirm(self, requests: int) -> str:
        """What the ledger says, once it has caught up. Failed when it knows fewer than were answered."""
        environment = {"SIDECAR_ADMIN": f"127.0.0.1:{self.admin}"}
        before = -1
        deadline = time.monotonic() + _LEDGER_SECONDS
        while time.monotonic() < deadline:
            usage = json.loads(command(self.site, "usage", "bench", "--json", environment=environment))
            recorded = int(usage["requests"])
            if recorded >= requests and recorded == before:
                return f"the ledger holds {recorded:,} calls for the {requests:,} counted by the load generator"
            before = recorded
            time.sleep(1.0)
        raise Failed(f"the ledger holds {before} calls, {requests} were answered")


def make_site(stage: Stage, name: str, edits: Mapping[str, str] = MappingProxyType({})) -> Site:
    """Copies the configuration and makes tenants and keys with the sidecar's own commands. Missing, Failed.

    ``edits``: texts of the configuration's files and what stands in their place."""
    folder = stage.folder / name
    shutil.copytree(CONFIG, folder)
    for file in folder.rglob("*.yaml"):
        text = file.read_text()
        for old, new in edits.items():
            text = text.replace(old, new)
        file.write_text(text)
    site = Site(folder, "", "")
    site.data.mkdir()
    keys = []
    for plan in ("bench", "tiny"):
        command(site, "tenants", "add", plan, "--plan", plan)
        keys.append(command(site, "keys", "create", plan, "--name", "load").strip())
    return Site(folder, *keys)


def run(stage: Stage, name: str, site: Site, upstream: int, bare: str = "") -> Sidecar:
    """Starts the sidecar on a site and waits until it answers a real request; ``bare`` as in ``benchmarks.bare``."""
    port, admin = free_port(), free_port()
    listen = ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    start: list[str | Path] = [sys.executable, Path(__file__).parent / "bare.py", bare] if bare else [_script()]
    argv: list[str | Path] = [*start, "run", "--config", site.config, "--data", site.data, *listen]
    environment = {"BENCH_UPSTREAM": f"http://127.0.0.1:{upstream}"}
    process = stage.spawn(name, argv, cwd=site.folder, env=environment)
    # The start is measured on the load core: nothing of the asking competes with the sidecar for its own.
    took = stage.wait(process, lambda: probe.answers(port, site.key), seconds=30, what="a 200 to a real request")
    return Sidecar(process, site, port, admin, took)


def start(
    stage: Stage, name: str, upstream: int, bare: str = "", edits: Mapping[str, str] = MappingProxyType({})
) -> Sidecar:
    """A fresh site and a sidecar on it; ``edits`` as in ``make_site``."""
    return run(stage, name, make_site(stage, name, edits), upstream, bare)


def command(site: Site, *words: str, environment: dict[str, str] | None = None) -> str:
    """Standard output of one of the sidecar's commands on the site. Failed with its messages when it refuses."""
    argv = [str(_script()), *words, "--config", str(site.config), "--data", str(site.data)]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        cwd=site.folder,
        env=dict(os.environ) | (environment or {}),
        timeout=120,
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise Failed(f"sidecar {' '.join(words[:2])} ended with {done.returncode}: {said}")
    return done.stdout


def _script() -> Path:
    return program("sidecar", _HOW)
