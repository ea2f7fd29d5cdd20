"""What writing usage down costs: the sidecar without a journal, with the journal alone, and whole, in one run.

The server has one core, so in the last of the three the ledger's thread takes its time from the lane. Given a core of
its own it does not; the mark is therefore set on what the hot path itself pays.
"""

from collections.abc import Callable
from functools import partial

from benchmarks import report, turns, under_test
from benchmarks.lineup import Peer, Server, Setting
from benchmarks.stage import Stage

_LEAST = 0.95


def _start(bare: str, setting: Setting) -> Server:
    sidecar = under_test.start(setting.stage, f"sidecar-{bare or 'whole'}", setting.upstream, bare)
    return Server(sidecar.process, sidecar.port, sidecar.key, sidecar.tiny_key, None if bare else sidecar.confirm)


def _peer(name: str, title: str, does: str, lacks: str) -> Peer:
    bare = name if name != "whole" else ""
    return Peer(name, title, does, lacks, partial(_start, bare), checks_keys=True, limits=True)


_PEERS = (
    _peer("none", "no journal", "keys, windows, quota, metrics", "no record of a call is kept anywhere"),
    _peer("free", "journal, a ledger that costs nothing", "the same, intent and end in the journal", "no ledger"),
    _peer("whole", "journal and ledger", "everything", "nothing"),
)


def measure(stage: Stage, load: turns.Options, say: Callable[[str], None]) -> report.Part:
    """Three sidecars in turns, and the share of the first one's rate that the second one reaches."""
    results = turns.measure(stage, _PEERS, load, say)
    marks = report.share_marks(results, "none", {"free": "rate with the journal over none"}, _LEAST)
    return report.part_alone("The journal", report.lane_part(results, load), marks)
