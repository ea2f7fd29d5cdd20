"""Many routes: time per request with few and with 10,000 of them, every request with a path not seen before.

Paths that repeat are remembered, so they say nothing of the router; wrk's script counts the path up.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks import probe, procfs, under_test, wrk
from benchmarks.nginx import json_reply, start_upstream
from benchmarks.report import Mark, Part, format_ms
from benchmarks.stage import Failed, Stage, free_port
from benchmarks.turns import Options

ROUTES = 10_000
_SLOWER = 1.05  # of the time per request with few routes
_NEW_PATHS = """local n = 0
request = function() n = n + 1; return wrk.format("GET", "/v1/items/" .. n) end
"""


def measure(stage: Stage, load: Options, say: Callable[[str], None]) -> Part:
    """Two sites alike but for their routes, in turns."""
    upstream = free_port()
    start_upstream(stage, "upstream", upstream, json_reply(load.body), on_load_core=True)
    script = stage.folder / "paths.lua"
    script.write_text(_NEW_PATHS)
    sites = {"few": under_test.make_site(stage, "few-routes"), "many": under_test.make_site(stage, "many-routes")}
    _add_routes(sites["many"].folder / "policies")
    running = {name: under_test.run(stage, name, site, upstream) for name, site in sites.items()}
    samples: dict[str, list[wrk.Sample]] = {name: [] for name in sites}
    spent: dict[str, list[float]] = {name: [] for name in sites}
    for _ in range(load.rounds):
        for name, sidecar in running.items():
            before = procfs.cpu_seconds(sidecar.process.pid)
            sample = _load(sidecar, load, script)
            spent[name].append((procfs.cpu_seconds(sidecar.process.pid) - before) / sample.requests * 1e6)
            samples[name].append(sample)
            say(f"  {name} routes: {sample.rate:,.0f} requests/s")
            procfs.settle(sidecar.process.pid)
    return _part(samples, spent, load)


def _add_routes(policies: Path) -> None:
    routes = [
        f'  - {{name: more-{number}, match: {{methods: [GET], path: "/v1/more-{number}/{{id}}"}}, upstream: api}}\n'
        for number in range(ROUTES - 3)
    ]
    (policies / "more.yaml").write_text("routes:\n" + "".join(routes))


def _load(sidecar: under_test.Sidecar, load: Options, script: Path) -> wrk.Sample:
    sample = wrk.run(
        f"http://127.0.0.1:{sidecar.port}",
        seconds=load.seconds,
        connections=load.connections,
        headers={probe.HEADER: sidecar.key},
        script=script,
    )
    if sample.non_2xx or sample.errors:
        raise Failed(f"{sample.non_2xx} replies were not 2xx, {sample.errors} connections failed")
    return sample


def _part(samples: dict[str, list[wrk.Sample]], spent: dict[str, list[float]], load: Options) -> Part:
    names = {"few": "3", "many": f"{ROUTES:,}"}
    rows = tuple(
        (
            names[name],
            f"{median(sample.rate for sample in taken):,.0f}",
            format_ms(median(sample.p99_ms for sample in taken)),
            f"{median(spent[name]):.1f} us",
        )
        for name, taken in samples.items()
    )
    slower = median(spent["many"]) / median(spent["few"])
    mark = Mark(
        f"core per request with {ROUTES:,} routes", f"{slower:.2f} x", f"at most {_SLOWER} x", slower <= _SLOWER
    )
    intro = f"every request with a path not seen before; median of {load.rounds} rounds of {load.seconds} s in turns."
    raw = {name: [asdict(sample) for sample in taken] for name, taken in samples.items()}
    return Part("Many routes", intro, ("routes", "requests/s", "p99", "core per request"), rows, (), (mark,), raw)
