"""What writing usage down costs: the sidecar without a journal, with the journal alone, and whole, in one run.

The server has one core, so in the last of the three the ledger's thread takes its time from the lane. Given a core of
its own it does not; the mark is therefore set on what the hot path itself pays, and beside it stands what it is when
the journal is read for a ledger too. Two processes differ by up to a tenth for the way they lie in memory, which is
more than is asked: so each process is switched between all, every second, and a share is the mean of several processes.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import mean

from benchmarks import probe, procfs, report, turns, under_test, wrk
from benchmarks.bare import WAYS
from benchmarks.lineup import Peer, Server, Setting
from benchmarks.nginx import json_reply, start_upstream
from benchmarks.stage import Stage, free_port

_LEAST = 0.95
_WINDOWS = 15  # of a second each, per process and way


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
    """Three sidecars in turns; and as many as there are rounds, each switched between the ways of ``bare``."""
    results = turns.measure(stage, _PEERS, load, say)
    shares = _switched(stage, load, say)
    alone, read = (mean(share[way] for share in shares) for way in ("alone", "free"))
    title = f"rate with the journal over none, mean of {len(shares)} processes, each switched between them"
    mark = report.Mark(title, f"{alone:.3f}", f"{_LEAST}", alone >= _LEAST)
    part = report.part_alone("The journal", report.lane_part(results, load), (mark,))
    line = f"The same when all of it is read, for a ledger that costs nothing: {read:.3f}."
    return replace(part, lines=(*part.lines, line), raw=part.raw | {"shares": shares})


def _switched(stage: Stage, load: turns.Options, say: Callable[[str], None]) -> list[dict[str, float]]:
    upstream, shares = free_port(), list[dict[str, float]]()
    start_upstream(stage, "upstream of the switched", upstream, json_reply(load.body), on_load_core=True)
    for number in range(1, load.rounds + 1):
        sidecar = under_test.start(stage, f"switched-{number}", upstream, "switched")
        url, headers = f"http://127.0.0.1:{sidecar.port}{probe.PATH}", {probe.HEADER: sidecar.key}
        wrk.run(url, seconds=3, connections=load.connections, headers=headers)
        requests = dict.fromkeys(WAYS, 0)
        for _ in range(_WINDOWS):
            for way in WAYS:
                sample = wrk.run(url, seconds=1, connections=load.connections, headers=headers)
                requests[way] += sample.requests
                procfs.settle(sidecar.process.pid)  # the calls that wrk left behind have ended
                os.kill(sidecar.process.pid, signal.SIGUSR1)
        stage.stop(sidecar.process)
        shares.append({way: requests[way] / requests["none"] for way in WAYS})
        told = ", ".join(f"{way} {share:.3f}" for way, share in shares[-1].items())
        say(f"  switched process {number} of {load.rounds}, rate over none: {told}")
    return shares
