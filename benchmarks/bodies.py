"""Large replies: bytes per second of the sidecar beside plain nginx, which buffers and does nothing else."""

from collections.abc import Callable
from dataclasses import replace

from benchmarks import lineup, turns
from benchmarks.report import MIB, Mark, Part, lane_part
from benchmarks.stage import Stage

_BODY = MIB
_LEAST = 0.7


def measure(stage: Stage, load: turns.Options, say: Callable[[str], None]) -> Part:
    """Both in turns, each reply of 1 MiB."""
    load = replace(load, body=_BODY)
    peers = [peer for peer in lineup.PEERS if peer.name in ("nginx", "sidecar")]
    results = turns.measure(stage, peers, load, say)
    part = lane_part(results, load)
    done = {result.peer.name: result for result in results if result.rounds}
    rows = tuple(
        (result.peer.title, f"{result.rate * _BODY / MIB:,.0f} MiB/s", f"{result.cpu:.0%}", row[-1])
        for result, row in zip(done.values(), part.rows, strict=True)
    )
    marks: tuple[Mark, ...] = ()
    if {"nginx", "sidecar"} <= done.keys():
        share = done["sidecar"].rate / done["nginx"].rate
        marks = (
            Mark("bytes per second of 1 MiB replies over nginx", f"{share:.2f} x", f"{_LEAST} x", share >= _LEAST),
        )
    intro = f"replies of 1 MiB, {load.connections} connections, median of {load.rounds} rounds of {load.seconds} s."
    header = ("what", "bytes", "core", "sidecar is")
    return Part("Large replies", intro, header, rows, part.lines, marks, part.raw, part.failed)
