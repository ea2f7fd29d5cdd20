"""One book: a data folder on a disk, a store, an upstream, callers and a sidecar between them, until it is compared."""

import asyncio
import json
import random
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import limits
from tests.chaos.books import LedgerBook, Verdict, judge, read_upstream
from tests.chaos.disk import make_disk
from tests.chaos.load import Key, Load
from tests.chaos.process import Broken, SidecarProcess, UpstreamProcess, run_command
from tests.chaos.redis import Redis
from tests.chaos.store import Store

_DISK_BYTES = 256 * 1024**2
_START_TRIES_S = 120.0
_TENANTS = ("acme", "globex")
MAY_BILL = frozenset({"slow"})
_POLICIES = """
meters:
  requests: {count: requests}
  weight: {count: units}
  bytes_in: {count: bytes_in}
  bytes_out: {count: bytes_out}
routes:
  - {name: small, match: {methods: [GET], path: /v1/small}, upstream: api, announce: {cost: true, latency: true}}
  - {name: take, match: {methods: [POST], path: /v1/take}, upstream: api, units: 3}
  - {name: stream, match: {path: "/v1/stream/{n}"}, upstream: api, units: 5}
  - {name: slow, match: {path: "/v1/slow/{ms}"}, upstream: api, units: 2, on_indeterminate: bill, on_disconnect: drain}
  - {name: rest, match: {path: "/{rest...}"}, upstream: api}
plans:
  large:
    limits: [{name: steady, limit: 1_000_000, window: 1s}]
    quotas:
      - {name: requests, meter: requests, limit: 1_000_000_000, period: month, overage: allow}
      - {name: weight, meter: weight, limit: 1_000_000_000, period: month, overage: allow}
      - {name: in, meter: bytes_in, limit: 1_000_000_000, period: month, overage: allow}
      - {name: out, meter: bytes_out, limit: 1_000_000_000, period: month, overage: allow}
    test_keys: large
  small: {limits: [{name: steady, limit: @UNITS@, window: @WINDOW@s, on_store_error: deny}]}
tenants:
  acme: {plan: large}
  globex: {plan: large}
  @TENANT@: {plan: small}
costs: {per_call: "0.000100 USD", per_ms: "0.000015 USD", per_gib_out: "0.09 USD"}
"""
_CONFIG = """
listen: 127.0.0.1:{port}
admin: {{listen: 127.0.0.1:{admin}}}
policies: policies/
upstreams: {{api: {{targets: ["http://127.0.0.1:{upstream}"]}}}}
drain: 1s
journal: {{durability: {durability}, segment: 256KiB, max: 16MiB, ballast: 1MiB, mark: 1s}}
workers: {workers}
{storage}
{limits}
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a book is made. ``real_disk``: no tmpfs, so that fsync costs what it costs, and no disk that is full;
    ``shared``: limits are counted in Redis, so that they hold whatever is killed."""

    durability: str = "process"
    callers: int = 20
    rate: int = 1200
    real_disk: bool = False
    shared: bool = False
    workers: int = 1


def _sockets(folder: str, names: list[str]) -> set[str]:
    """Of workers; a socket cannot be copied."""
    return {name for name in names if (Path(folder) / name).is_socket()}


class Stage:
    """``open`` makes everything run, ``check`` compares the books, ``close`` ends every process."""

    def __init__(self, folder: Path, store: Store, plan: Plan, rng: random.Random) -> None:
        self.folder = folder
        self.store = store
        self.plan = plan
        self.rng = rng
        self.disk_folder = folder / "disk"
        self.data = self.disk_folder / "data"
        self._upstream_log = folder / "upstream.log"
        self._client_log = (folder / "client.log").open("w")
        self._port, self._upstream_port, self._admin_port = _free_ports(3)
        self.upstream = UpstreamProcess(self._upstream_port, self._upstream_log)
        words = ("--config", str(folder / "sidecar.yaml"), "--data", str(self.data))
        self.words = words
        self.sidecar = SidecarProcess(words, folder / "sidecar.log")
        self.disk = None if plan.real_disk else make_disk(self.disk_folder, _DISK_BYTES)
        self.disk_is_full = False
        self.redis = Redis() if plan.shared else None
        self.violations: list[str] = []  # of the processes; those of the books are in the verdicts

    async def open(self, *, load: bool = True) -> None:
        """Configuration, processes, keys, and the load unless it is to ``begin`` later."""
        (self.folder / "policies").mkdir(exist_ok=True)
        (self.folder / "policies" / "all.yaml").write_text(_policies())
        await self.store.start(self.folder)
        if self.redis is not None:
            await self.redis.start()
        values: dict[str, object] = {"port": self._port, "admin": self._admin_port, "upstream": self._upstream_port}
        values |= {
            "workers": self.plan.workers,
            "storage": self.store.setting,
            "limits": self.redis.setting if self.redis is not None else "",
        }
        text = _CONFIG.format(**values, durability=self.plan.durability)
        (self.folder / "sidecar.yaml").write_text(text)
        self.upstream.start()
        await self.start()
        keys, plan = await self._make_keys(), self.plan
        self.load = Load(self._port, keys, self.rng, self._client_log, callers=plan.callers, rate=plan.rate)
        if load:
            self.begin()

    def begin(self) -> None:
        """The callers call from now on."""
        self.load.start()

    def break_with(self, command: tuple[str, ...], environment: dict[str, str]) -> None:
        """The next start is of another program; for the negative controls."""
        log = self.folder / "sidecar.log"
        self.sidecar = SidecarProcess(self.words, log, command=command, environment=environment)

    def mend(self) -> None:
        """The next start is of the real one."""
        self.sidecar = SidecarProcess(self.words, self.folder / "sidecar.log")

    async def start(self, *, must: bool = True) -> bool:
        """Starts the sidecar until it listens. What keeps it from that (a full disk, a store that is down) may be there
        for a while, so it is tried again; Broken when it ``must`` and does not within a minute."""
        deadline = time.monotonic() + _START_TRIES_S
        while True:
            if self.sidecar.pid is None:
                self.sidecar.launch()
            if await self.sidecar.ready():
                return True
            await self.sidecar.kill()
            if not must:
                return False
            if time.monotonic() > deadline:
                raise Broken(f"the sidecar does not start: {self._end_of_log()}")
            await asyncio.sleep(0.2)

    async def kill(self) -> None:
        """kill -9 of the sidecar; what is open is counted first."""
        self.load.book.killed()
        await self.sidecar.kill()

    async def stop(self) -> int:
        """SIGTERM, and its end; the exit code."""
        self.load.book.killed()
        self.sidecar.signal(signal.SIGTERM)
        return await self.sidecar.ended()

    def watch(self) -> None:
        """Notes a sidecar that ended although nobody ended it, and callers that failed."""
        if self.sidecar.pid is None:
            self.violations.append(f"the sidecar ended by itself: {self._end_of_log()}")
        if not self.upstream.runs:
            raise Broken("the upstream ended by itself")

    async def fill(self) -> None:
        """The disk is full from now on."""
        assert self.disk is not None
        self.disk_is_full = True
        await asyncio.to_thread(self.disk.fill, self.sidecar.pid)

    async def empty(self) -> None:
        """It is not any more."""
        if self.disk is not None and self.disk_is_full:
            await asyncio.to_thread(self.disk.empty, self.sidecar.pid)
            self.disk_is_full = False

    async def check(self, *, resume: bool) -> Verdict:
        """Heals everything, lets calls end, stops the sidecar so that all is shipped, and compares the books."""
        await self.empty()
        await self.store.heal()
        if self.redis is not None:
            await self.redis.heal()
        if self.sidecar.pid is None:
            await self.start()
        await self.load.pause()
        if self.load.book.open:
            self.violations.append(f"{len(self.load.book.open)} calls got no answer within a minute")
        code = await self._stop_clean()
        if code:
            self.violations.append(f"the sidecar ended with {code} at a clean stop: {self._end_of_log()}")
        left = [path.name for path in self.data.glob("journal*/*") if path.suffix in (".segment", ".corrupt")]
        if left:
            self.violations.append(f"after a clean stop the journal still has {left}")
        self._client_log.flush()
        ledger: LedgerBook = await self.store.read(self.data)
        verdict = judge(self.load.book, read_upstream(self._upstream_log), ledger, MAY_BILL)
        if self.redis is not None:
            self._check_limit(ledger)
        if resume:
            await self.start()
            self.load.resume()
        return verdict

    async def close(self, *, keep: bool = False) -> None:
        """Ends every process. ``keep``: what was on the disk is kept as evidence."""
        if hasattr(self, "load"):
            await self.load.stop()
        await self.sidecar.kill()
        self.upstream.stop()
        await self.store.close()
        if self.redis is not None:
            await self.redis.close()
        self._client_log.close()
        if self.disk is not None:
            if keep and self.data.exists():
                shutil.copytree(self.data, self.folder / "data", ignore=_sockets)
            self.disk.close()

    def _check_limit(self, ledger: LedgerBook) -> None:
        if broken := limits.limit_broken(ledger.events):
            self.violations.append(broken)
        if not any(answer.status == 429 and answer.tenant == limits.TENANT for answer in self.load.book.answers):
            self.violations.append(f"nobody was ever refused: {limits.TENANT} did not reach the limit")

    async def _stop_clean(self) -> int:
        self.sidecar.signal(signal.SIGTERM)
        return await self.sidecar.ended()

    async def _make_keys(self) -> list[Key]:
        wanted = [(tenant, test) for tenant in _TENANTS for test in (False, True)] + [(limits.TENANT, False)]
        return list(await asyncio.gather(*(self._make_key(tenant, test) for tenant, test in wanted)))

    async def _make_key(self, tenant: str, test: bool) -> Key:
        words = ("keys", "create", tenant, "--name", "chaos", *(("--test",) if test else ()), "--json", *self.words)
        made = await asyncio.to_thread(run_command, words)
        if made.returncode:
            raise Broken(f"no key could be made for {tenant}: {made.stderr}")
        return Key(json.loads(made.stdout)["key"], tenant, test)

    def _end_of_log(self) -> str:
        return (self.folder / "sidecar.log").read_text(errors="replace")[-600:]


def _policies() -> str:
    values = {"@TENANT@": limits.TENANT, "@UNITS@": str(limits.UNITS), "@WINDOW@": str(limits.WINDOW_S)}
    text = _POLICIES
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _free_ports(count: int) -> list[int]:
    """Below the range from which the kernel gives ports to clients: callers that connect must not take the sidecar's
    own port while it is down."""
    found: list[int] = []
    rng = random.SystemRandom()
    while len(found) < count:
        port = rng.randint(15_000, 31_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
