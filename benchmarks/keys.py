"""What a full store costs: start-up time and the rate of one hot key, with few keys in the store and with a million."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks import probe, procfs, under_test, wrk
from benchmarks.nginx import json_reply, start_upstream
from benchmarks.report import Mark, Part, format_mib, format_ms
from benchmarks.seed import seed
from benchmarks.stage import Failed, Stage, free_port
from benchmarks.turns import Options

_STARTS = 5
_READY_SECONDS = 0.5
_SLOWER_START_SECONDS = 0.05  # a difference in the medians of five starts below this is the machine's
_SLOWER_RATE = 0.95  # of the rate with few keys; less is more than rounds of the same server differ by


def measure(stage: Stage, load: Options, keys: int, say: Callable[[str], None]) -> Part:
    """Two sites alike but for their keys are started in turns, then loaded in turns."""
    upstream = free_port()
    start_upstream(stage, "upstream", upstream, json_reply(load.body), on_load_core=True)
    sites = {"few": under_test.make_site(stage, "few"), "many": under_test.make_site(stage, "many")}
    took = seed(_database(sites["many"].data), keys)
    size = _database(sites["many"].data).stat().st_size
    say(f"  seeded {keys:,} keys in {took:.1f} s, {format_mib(size)}")
    starts: dict[str, list[float]] = {name: [] for name in sites}
    for _ in range(_STARTS):
        for name, site in sites.items():
            sidecar = under_test.run(stage, name, site, upstream)
            starts[name].append(sidecar.ready_seconds)
            stage.stop(sidecar.process)
    running = {name: under_test.run(stage, name, site, upstream) for name, site in sites.items()}
    rates: dict[str, list[wrk.Sample]] = {name: [] for name in sites}
    for _ in range(load.rounds):
        for name, sidecar in running.items():
            rates[name].append(_load(sidecar, load))
            say(f"  {name} keys: {rates[name][-1].rate:,.0f} requests/s")
    memory = {name: procfs.rss_bytes(sidecar.process.pid) for name, sidecar in running.items()}
    return _part(keys, starts, rates, memory)


def _database(data: Path) -> Path:
    found = sorted(data.rglob("*.db"))
    if len(found) != 1:
        raise Failed(f"one SQLite file was expected in the data folder, there are {len(found)}")
    return found[0]


def _load(sidecar: under_test.Sidecar, load: Options) -> wrk.Sample:
    sample = wrk.run(
        f"http://127.0.0.1:{sidecar.port}{probe.PATH}",
        seconds=load.seconds,
        connections=load.connections,
        headers={probe.HEADER: sidecar.key},
    )
    if sample.non_2xx or sample.errors:
        raise Failed(f"{sample.non_2xx} replies were not 2xx, {sample.errors} connections failed")
    procfs.settle(sidecar.process.pid)
    return sample


def _part(
    keys: int, starts: dict[str, list[float]], rates: dict[str, list[wrk.Sample]], memory: dict[str, int]
) -> Part:
    start = {name: median(seconds) for name, seconds in starts.items()}
    rate = {name: median(sample.rate for sample in samples) for name, samples in rates.items()}
    names = {"few": "2", "many": f"{keys:,}"}
    rows = tuple(
        (
            names[name],
            format_ms(start[name] * 1000),
            f"{rate[name]:,.0f}",
            format_ms(median(sample.p99_ms for sample in rates[name])),
            format_mib(memory[name]),
        )
        for name in names
    )
    slower, kept = start["many"] - start["few"], rate["many"] / rate["few"]
    worst = max(start.values())
    marks = (
        Mark("ready", format_ms(worst * 1000), f"under {_READY_SECONDS:g} s", worst < _READY_SECONDS),
        Mark(
            f"start-up with {keys:,} keys",
            f"{slower * 1000:+.0f} ms",
            f"less than {_SLOWER_START_SECONDS * 1000:.0f} ms more",
            slower < _SLOWER_START_SECONDS,
        ),
        Mark(f"hot key among {keys:,}", f"{kept:.2f} x", f"{_SLOWER_RATE} x of few keys", kept >= _SLOWER_RATE),
    )
    raw = {
        "keys": keys,
        "ready_seconds": starts,
        "rounds": {name: [asdict(sample) for sample in samples] for name, samples in rates.items()},
        "rss_bytes": memory,
    }
    intro = (
        "start-up is from the process's start to its first 200 to a real request; the median of five starts in turns."
    )
    return Part("Keys", intro, ("keys in the store", "start-up", "requests/s", "p99", "RSS"), rows, (), marks, raw)
