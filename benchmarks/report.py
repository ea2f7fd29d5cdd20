"""What a run prints: tables for people, marks with pass or miss, JSON, and the part of docs/benchmarks.md it fills."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.turns import Options, Result

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
MIB = 2**20
_DISTURBED = 0.1  # of a core


@dataclass(frozen=True, slots=True)
class Mark:
    """Something to reach: what was measured, what is asked, and whether it was reached."""

    what: str
    measured: str
    asked: str
    passed: bool

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'MISS'}  {self.what}: {self.measured} (to reach: {self.asked})"


@dataclass(frozen=True, slots=True)
class Part:
    """One section of the report: heading, introduction, table, lines after it, marks, and the raw numbers."""

    heading: str
    intro: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]
    marks: tuple[Mark, ...]
    raw: dict[str, Any]
    failed: bool = False


def lane_part(results: Sequence[Result], options: Options) -> Part:
    """The lane's table, ratios, honest lines and marks."""
    done = {result.peer.name: result for result in results if result.rounds}
    sidecar = done.get("sidecar")
    rows = tuple(_row(result, sidecar) for result in done.values())
    intro = (
        f"{options.connections} connections, a reply of {options.body} bytes, median of {options.rounds} rounds of "
        f"{options.seconds} s in turns. The server has one core; the load generator and the upstream share the other."
    )
    header = (
        "what",
        "requests/s",
        "least to most",
        "p50",
        "p99",
        "core",
        "core per request",
        "RSS",
        "non-2xx",
        "sidecar is",
    )
    return Part(
        "The lane",
        intro,
        header,
        rows,
        (*_disturbance(done.values()), *(_line(result) for result in results)),
        _ratio_marks(done, sidecar),
        {"options": asdict(options), "peers": [_raw(result) for result in results]},
        failed=any(result.failed for result in results),
    )


def part_alone(heading: str, part: Part, marks: tuple[Mark, ...]) -> Part:
    """A ``lane_part`` of sidecars alone: without the column that compares with the sidecar."""
    rows = tuple(row[:-1] for row in part.rows)
    return Part(heading, part.intro, part.header[:-1], rows, part.lines, marks, part.raw, part.failed)


def share_marks(results: Sequence[Result], of: str, peers: Mapping[str, str], least: float) -> tuple[Mark, ...]:
    """For each of the peers that ran, with what its mark is called, the share of the rate of the peer ``of``.

    Of turns that follow each other: what the machine loses to others from one minute to the next is far more."""
    rates = {result.peer.name: [turn.sample.rate for turn in result.rounds] for result in results if result.rounds}
    marks = []
    for name, what in peers.items():
        if {of, name} <= rates.keys():
            share = median(there / here for here, there in zip(rates[of], rates[name], strict=True))
            title = f"{what}, median of the rounds' ratios"
            marks.append(Mark(title, f"{share:.3f}", f"{least}", share >= least))
    return tuple(marks)


def text(parts: Sequence[Part], machine: str, date: str) -> str:
    """The whole report for a terminal."""
    blocks = [f"{date}, {machine}"]
    for part in parts:
        blocks.append(f"{part.heading}: {part.intro}")
        if part.rows:
            blocks.append(_aligned(part.header, part.rows))
        if part.lines:
            blocks.append("\n".join(part.lines))
    marks = [str(mark) for part in parts for mark in part.marks]
    return "\n\n".join([*blocks, "\n".join(["Marks", *marks])] if marks else blocks)


def markdown(parts: Sequence[Part], machine: str, date: str) -> str:
    """The same for a document."""
    blocks = [f"Measured on {date}: {machine}."]
    for part in parts:
        blocks += [f"### {part.heading}", part.intro]
        if part.rows:
            blocks.append("\n".join(map(_pipes, (part.header, ("---",) * len(part.header), *part.rows))))
        if part.lines:
            blocks.append("\n".join(f"- {' '.join(line.split())}" for line in part.lines))
        if part.marks:
            table = [
                (mark.what, mark.measured, mark.asked, "pass" if mark.passed else "**miss**") for mark in part.marks
            ]
            blocks.append("\n".join(map(_pipes, (("mark", "measured", "to reach", ""), ("---",) * 4, *table))))
    return "\n\n".join(blocks)


def write_between_markers(file: Path, body: str) -> None:
    """Replaces what stands between the two markers of ``file``. ValueError when they are not there, once, in order."""
    page = file.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"{file}: needs one line {BEGIN} and, after it, one line {END}")
    before, _, rest = page.partition(BEGIN)
    file.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def as_json(parts: Sequence[Part], machine: str, date: str) -> str:
    """Everything that was measured, one object per part, with its marks."""
    document: dict[str, Any] = {"date": date, "machine": machine}
    for part in parts:
        document[part.heading.lower().replace(" ", "_")] = part.raw | {"marks": [asdict(mark) for mark in part.marks]}
    return json.dumps(document, indent=2)


def format_ms(ms: float) -> str:
    """Milliseconds with three digits that matter: ``0.82 ms``, ``12.3 ms``."""
    return f"{ms:.2f} ms" if ms < 10 else f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"


def format_mib(size: int) -> str:
    """Bytes as MiB with one place."""
    return f"{size / MIB:.1f} MiB"


def _row(result: Result, sidecar: Result | None) -> tuple[str, ...]:
    rates = [turn.sample.rate for turn in result.rounds]
    ratio = "" if sidecar is None else f"{sidecar.rate / result.rate:.2f} x"
    return (
        result.peer.title,
        f"{result.rate:,.0f}",
        f"{min(rates) / 1000:.1f} to {max(rates) / 1000:.1f} k",
        format_ms(result.p50_ms),
        format_ms(result.p99_ms),
        f"{result.cpu:.0%}",
        f"{result.cpu_us:.1f} us",
        format_mib(result.rss_bytes),
        f"{result.non_2xx}",
        ratio,
    )


def _line(result: Result) -> str:
    peer = result.peer
    if result.failed:
        return f"{peer.title}: FAILED: {result.failed}"
    if result.skipped:
        return f"{peer.title}: skipped: {result.skipped}"
    settled = max(turn.settle_seconds for turn in result.rounds)
    later = f" After a round it went on working for {settled:.1f} s." if settled >= 0.5 else ""
    records = f" Counted: {result.records}." if result.records else ""
    return f"{peer.title}: does: {peer.does}. Does not: {peer.lacks}.{later}{records}"


def _disturbance(results: Iterable[Result]) -> tuple[str, ...]:
    worst = max((result.others for result in results), default=0.0)
    if worst < _DISTURBED:
        return ()
    return (f"Disturbed: in the worst round other processes took {worst:.0%} of a core; repeat it on a quiet machine.",)


def _ratio_marks(done: dict[str, Result], sidecar: Result | None) -> tuple[Mark, ...]:
    if sidecar is None:
        return ()
    marks = []
    for result in done.values():
        asked = result.peer.ratio
        if asked is not None:
            ratio = sidecar.rate / result.rate
            marks.append(Mark(f"rate over {result.peer.title}", f"{ratio:.2f} x", f"{asked} x", ratio >= asked))
    return tuple(marks)


def _raw(result: Result) -> dict[str, Any]:
    return {
        "name": result.peer.name,
        "title": result.peer.title,
        "skipped": result.skipped,
        "failed": result.failed,
        "records": result.records,
        "rounds": [asdict(turn) for turn in result.rounds],
    }


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *rest = (_pad(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


def _pad(cell: str, width: int, column: int) -> str:
    pad: Callable[[int], str] = cell.ljust if column == 0 else cell.rjust
    return pad(width)


def _pipes(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"
