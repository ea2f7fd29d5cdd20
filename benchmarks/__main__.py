"""``python -m benchmarks``: see docs/benchmarks.md."""

import argparse
import signal
import sys
import time
from pathlib import Path

from benchmarks import bodies, crowd, half, journal, keys, lineup, many_routes, memory, procfs, report, shared, turns
from benchmarks.h2load import H2loadError
from benchmarks.stage import Failed, Missing, Stage, program
from benchmarks.wrk import WrkError

_PARTS = ("lane", "half", "bodies", "crowd", "routes", "journal", "shared", "memory", "keys")
_LOADED = {
    "journal": journal,
    "shared": shared,
    "half": half,
    "bodies": bodies,
    "crowd": crowd,
    "routes": many_routes,
}
_WRK = "install wrk, the load generator (Debian: apt install wrk)"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when all that could start was measured without an error, 1 when something failed, 2 for bad usage."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        parts = [_measure(name, options) for name in options.parts]
    except KeyboardInterrupt:
        print("interrupted; every server was ended", file=sys.stderr)
        return 130
    except (Failed, H2loadError, Missing, WrkError) as failed:
        print(f"benchmarks: {failed}", file=sys.stderr)
        return 1
    _publish(parts, options)
    return 1 if any(part.failed for part in parts) else 0


def _measure(name: str, options: argparse.Namespace) -> report.Part:
    _say(f"{name}:")
    with Stage() as stage:
        if name == "memory":
            return memory.measure(stage, _say)
        program("wrk", _WRK)
        load = turns.Options(options.seconds, options.rounds, options.connections, options.body)
        if name in _LOADED:
            return _LOADED[name].measure(stage, load, _say)
        if name == "keys":
            return keys.measure(stage, load, options.keys, _say)
        peers = [peer for peer in lineup.PEERS if not options.only or peer.name in options.only]
        return report.lane_part(turns.measure(stage, peers, load, _say), load)


def _publish(parts: list[report.Part], options: argparse.Namespace) -> None:
    machine, date = procfs.machine(), time.strftime("%Y-%m-%d", time.gmtime())
    print(report.text(parts, machine, date))
    if options.json:
        options.json.write_text(report.as_json(parts, machine, date) + "\n")
    if options.write:
        report.write_between_markers(options.write, report.markdown(parts, machine, date))
        _say(f"wrote the results into {options.write}")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="The sidecar beside its peers, in one run."
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(_PARTS)}; all when none is named")
    parser.add_argument("--only", type=_names, default=(), help=f"peers of the lane: {','.join(lineup.NAMES)}")
    parser.add_argument("--seconds", type=_positive, default=4, help="per round (4)")
    parser.add_argument("--rounds", type=_positive, default=3, help="rounds of all peers in turns (3)")
    parser.add_argument("--connections", type=_positive, default=32, help="of the load generator (32)")
    parser.add_argument("--body", type=_body, default=400, help="bytes of the upstream's reply (400)")
    parser.add_argument("--keys", type=_positive, default=1_000_000, help="in the large store (1000000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number that was measured")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the report between the markers of a page")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in _PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; name some of {', '.join(_PARTS)}")
    if not options.parts:
        options.parts = ["lane"] if options.only else list(_PARTS)
    return options


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in lineup.NAMES:
            raise argparse.ArgumentTypeError(f"there is no peer {name!r}; name some of {','.join(lineup.NAMES)}")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _body(text: str) -> int:
    size = _positive(text)
    if size < 32:
        raise argparse.ArgumentTypeError("the reply is JSON and has at least 32 bytes")
    return size


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
