"""Latency at a rate that leaves room: p99 at half of the sidecar's own maximum, beside Envoy's at the same rate."""

from collections.abc import Callable
from dataclasses import asdict
from statistics import median

from benchmarks import h2load, lineup, probe, procfs, turns
from benchmarks.lineup import Peer, Server, Setting
from benchmarks.nginx import json_reply, start_upstream
from benchmarks.report import Mark, Part, format_ms
from benchmarks.stage import Failed, Missing, Stage, free_port, program
from benchmarks.wrk import run as at_most

_HOW = "install h2load, which keeps a rate (Debian: apt install nghttp2-client)"


def measure(stage: Stage, load: turns.Options, say: Callable[[str], None]) -> Part:
    """Finds the sidecar's maximum, then loads both with half of it, in turns."""
    program("h2load", _HOW)
    upstream, reply = free_port(), json_reply(load.body)
    start_upstream(stage, "upstream", upstream, reply, on_load_core=True)
    setting = Setting(stage, upstream, reply, lineup.new_key(), lineup.new_key())
    servers: dict[Peer, Server] = {}
    skipped = []
    for peer in lineup.PEERS:
        if peer.name in ("envoy", "sidecar"):
            try:
                servers[peer] = peer.start(setting)
            except Missing as missing:
                skipped.append(f"{peer.title}: skipped: {missing}")
    rate = _maximum(next(server for peer, server in servers.items() if peer.name == "sidecar"), load) / 2
    say(f"  half of the maximum: {rate:,.0f} requests/s")
    samples: dict[Peer, list[h2load.Paced]] = {peer: [] for peer in servers}
    for _ in range(load.rounds):
        for peer, server in servers.items():
            sample = _paced(stage, server, load, rate)
            samples[peer].append(sample)
            say(f"  {peer.name}: {sample.rate:,.0f} requests/s, p99 {format_ms(sample.p99_ms)}")
            procfs.settle(server.process.pid)
    return _part(samples, rate, load, tuple(skipped))


def _maximum(server: Server, load: turns.Options) -> float:
    url = f"http://127.0.0.1:{server.port}{probe.PATH}"
    headers = {probe.HEADER: server.key}
    rate = at_most(url, seconds=load.seconds, connections=load.connections, headers=headers).rate
    procfs.settle(server.process.pid)
    return rate


def _paced(stage: Stage, server: Server, load: turns.Options, rate: float) -> h2load.Paced:
    sample = h2load.run(
        f"http://127.0.0.1:{server.port}{probe.PATH}",
        rate=rate,
        seconds=load.seconds,
        connections=load.connections,
        headers={probe.HEADER: server.key},
        log=stage.folder / "h2load.log",
    )
    if sample.failed:
        raise Failed(f"{sample.failed} requests were not answered with 2xx")
    return sample


def _part(samples: dict[Peer, list[h2load.Paced]], rate: float, load: turns.Options, skipped: tuple[str, ...]) -> Part:
    p99 = {peer.name: median(sample.p99_ms for sample in taken) for peer, taken in samples.items()}
    rows = tuple(
        (
            peer.title,
            f"{median(sample.rate for sample in taken):,.0f}",
            format_ms(median(sample.p50_ms for sample in taken)),
            format_ms(p99[peer.name]),
        )
        for peer, taken in samples.items()
    )
    marks: tuple[Mark, ...] = ()
    if "envoy" in p99:
        asked = f"at most Envoy's {format_ms(p99['envoy'])}"
        marks = (Mark("p99 at half of the maximum", format_ms(p99["sidecar"]), asked, p99["sidecar"] <= p99["envoy"]),)
    intro = (
        f"{rate:,.0f} requests/s, half of the sidecar's maximum, over {load.connections} connections; "
        f"median of {load.rounds} rounds of {load.seconds} s in turns."
    )
    raw = {peer.name: [asdict(sample) for sample in taken] for peer, taken in samples.items()}
    return Part("Half load", intro, ("what", "requests/s", "p50", "p99"), rows, skipped, marks, raw)
