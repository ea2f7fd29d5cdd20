"""Many clients at once: the rate over 512 connections beside that over 32, in turns, of one sidecar."""

from collections.abc import Callable
from dataclasses import asdict
from statistics import median

from benchmarks import probe, procfs, under_test, wrk
from benchmarks.nginx import json_reply, start_upstream
from benchmarks.report import Mark, Part, format_ms
from benchmarks.stage import Failed, Stage, free_port
from benchmarks.turns import Options

_FEW, _MANY = 32, 512
_LEAST = 0.9


def measure(stage: Stage, load: Options, say: Callable[[str], None]) -> Part:
    """Loads the same process with few and with many connections."""
    upstream = free_port()
    start_upstream(stage, "upstream", upstream, json_reply(load.body), on_load_core=True)
    sidecar = under_test.start(stage, "sidecar", upstream)
    samples: dict[int, list[wrk.Sample]] = {_FEW: [], _MANY: []}
    spent: dict[int, list[float]] = {_FEW: [], _MANY: []}
    for _ in range(load.rounds):
        for connections, taken in samples.items():
            before = procfs.cpu_seconds(sidecar.process.pid)
            sample = wrk.run(
                f"http://127.0.0.1:{sidecar.port}{probe.PATH}",
                seconds=load.seconds,
                connections=connections,
                headers={probe.HEADER: sidecar.key},
            )
            if sample.non_2xx or sample.errors:
                raise Failed(f"{sample.non_2xx} replies were not 2xx, {sample.errors} connections failed")
            spent[connections].append((procfs.cpu_seconds(sidecar.process.pid) - before) / sample.requests * 1e6)
            taken.append(sample)
            say(f"  {connections} connections: {sample.rate:,.0f} requests/s")
            procfs.settle(sidecar.process.pid)
    rate = {connections: median(sample.rate for sample in taken) for connections, taken in samples.items()}
    rows = tuple(
        (
            f"{connections}",
            f"{rate[connections]:,.0f}",
            format_ms(median(sample.p99_ms for sample in taken)),
            f"{median(spent[connections]):.1f} us",
        )
        for connections, taken in samples.items()
    )
    share = rate[_MANY] / rate[_FEW]
    mark = Mark(f"rate over {_MANY} connections, of {_FEW}", f"{share:.2f} x", f"{_LEAST} x", share >= _LEAST)
    raw = {f"{connections}": [asdict(sample) for sample in taken] for connections, taken in samples.items()}
    intro = f"one sidecar, median of {load.rounds} rounds of {load.seconds} s in turns."
    return Part("Many clients", intro, ("connections", "requests/s", "p99", "core per request"), rows, (), (mark,), raw)
