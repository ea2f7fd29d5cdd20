"""Every peer is started, verified, warmed up, and then loaded in turns, A B C ... A B C, so that a noisy minute of the
machine falls on all of them alike. A peer's numbers are the medians of its rounds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks import probe, procfs, wrk
from benchmarks.lineup import Peer, Server, Setting, new_key, verify
from benchmarks.nginx import json_reply, start_upstream
from benchmarks.stage import Failed, Missing, Stage, free_port


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how hard: ``seconds`` per round, ``body`` bytes per reply."""

    seconds: int = 4
    rounds: int = 3
    connections: int = 32
    body: int = 400


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of one peer. ``cpu`` and ``others`` are shares of one core: the server's, and of processes that have no
    part in it; ``settle_seconds``: how long the server went on working after the load had ended."""

    sample: wrk.Sample
    cpu: float
    others: float
    rss_bytes: int
    settle_seconds: float


@dataclass(slots=True)
class Result:
    """What became of one peer: its rounds, or why there are none. ``records``: what its own counters say."""

    peer: Peer
    rounds: list[Round] = field(default_factory=list)
    skipped: str = ""
    failed: str = ""
    records: str = ""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return median(turn.sample.rate for turn in self.rounds)

    @property
    def p50_ms(self) -> float:
        return median(turn.sample.p50_ms for turn in self.rounds)

    @property
    def p99_ms(self) -> float:
        return median(turn.sample.p99_ms for turn in self.rounds)

    @property
    def cpu(self) -> float:
        """Share of its core that the server used; below about 0.95 the load side was the slower one."""
        return median(turn.cpu for turn in self.rounds)

    @property
    def cpu_us(self) -> float:
        """Microseconds of its core that the server used per request: what is left of noise when others are busy."""
        return median(turn.cpu / turn.sample.rate * 1e6 for turn in self.rounds)

    @property
    def rss_bytes(self) -> int:
        """The most that was seen after a round."""
        return max(turn.rss_bytes for turn in self.rounds)

    @property
    def others(self) -> float:
        """The most that processes without a part in it took of a core in a round."""
        return max(turn.others for turn in self.rounds)

    @property
    def requests(self) -> int:
        return sum(turn.sample.requests for turn in self.rounds)

    @property
    def non_2xx(self) -> int:
        return sum(turn.sample.non_2xx for turn in self.rounds)

    @property
    def errors(self) -> int:
        """Failed connects, reads, writes and time-outs."""
        return sum(turn.sample.errors for turn in self.rounds)


def measure(stage: Stage, peers: Sequence[Peer], options: Options, say: Callable[[str], None]) -> list[Result]:
    """Runs all of it. A peer that is missing or fails is in the results with its reason and is not measured on."""
    reply = json_reply(options.body)
    upstream = free_port()
    start_upstream(stage, "upstream", upstream, reply, on_load_core=True)
    setting = Setting(stage, upstream, reply, new_key(), new_key())
    results = {peer.name: Result(peer) for peer in peers}
    servers: dict[str, Server] = {}
    for peer in peers:
        server = _prepare(peer, setting, results[peer.name], say)
        if server is not None:
            servers[peer.name] = server
    warmed = {name: _turn(stage, server, options, seconds=1).sample.requests for name, server in servers.items()}
    for number in range(1, options.rounds + 1):
        for name in servers:
            turn = _turn(stage, servers[name], options, seconds=options.seconds)
            results[name].rounds.append(turn)
            others = f", other processes took {turn.others:.0%} of a core" if turn.others > 0.05 else ""
            say(f"  round {number} of {options.rounds}: {name}: {turn.sample.rate:,.0f} requests/s{others}")
    for name, server in servers.items():
        _confirm(results[name], server, warmed[name])
    return list(results.values())


def _prepare(peer: Peer, setting: Setting, result: Result, say: Callable[[str], None]) -> Server | None:
    try:
        server = peer.start(setting)
        verify(peer, server, setting.reply)
    except Missing as missing:
        result.skipped = str(missing)
        say(f"  {peer.name}: skipped: {missing}")
    except Failed as failed:
        result.failed = str(failed)
        say(f"  {peer.name}: FAILED: {failed}")
    else:
        proved = [word for word, claimed in (("keys", peer.checks_keys), ("limit", peer.limits)) if claimed]
        say(f"  {peer.name}: running, verified: {', '.join(['forwards', *proved])}")
        return server
    return None


def _turn(stage: Stage, server: Server, options: Options, *, seconds: int) -> Round:
    pid = server.process.pid
    server_before, stage_before = procfs.cpu_seconds(pid), stage.cpu_seconds()
    machine_before = procfs.machine_cpu_seconds()
    start = time.monotonic()
    sample = wrk.run(
        f"http://127.0.0.1:{server.port}{probe.PATH}",
        seconds=seconds,
        connections=options.connections,
        headers={probe.HEADER: server.key},
    )
    took = time.monotonic() - start
    cpu = (procfs.cpu_seconds(pid) - server_before) / took
    machine = procfs.machine_cpu_seconds() - machine_before
    others = max(0.0, machine - (stage.cpu_seconds() - stage_before)) / took
    return Round(sample, cpu, others, procfs.rss_bytes(pid), procfs.settle(pid))


def _confirm(result: Result, server: Server, warmed: int) -> None:
    if server.process.popen.poll() is not None:
        result.failed = f"it ended during the run:\n{server.process.tail()}"
    elif result.errors:
        result.failed = f"{result.errors} connections failed or timed out"
    elif result.non_2xx:
        result.failed = f"{result.non_2xx} replies were not 2xx"
    elif server.confirm is not None:
        try:
            result.records = server.confirm(result.requests + warmed)
        except Failed as failed:
            result.failed = str(failed)
