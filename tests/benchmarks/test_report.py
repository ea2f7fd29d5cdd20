import json
from pathlib import Path

import pytest

from benchmarks import lineup, report, wrk
from benchmarks.turns import Options, Result, Round

PEERS = {peer.name: peer for peer in lineup.PEERS}


def measured(name: str, *rates: float, others: float = 0.0) -> Result:
    rounds = [Round(wrk.Sample(1000, rate, 0.8, 12.34, 0, 0), 0.97, others, 50 * report.MIB, 0.0) for rate in rates]
    return Result(PEERS[name], rounds)


def test_ratios_are_of_medians_and_decide_the_marks() -> None:
    results = [
        measured("sidecar", 30_000, 58_500, 90_000),
        measured("nginx-lua-redis", 39_000, 39_000, 39_000),
        measured("envoy", 29_251, 29_251, 29_251),
    ]
    part = report.lane_part(results, Options())
    assert [(mark.measured, mark.passed) for mark in part.marks] == [("1.50 x", True), ("2.00 x", False)]
    assert part.rows[0][1] == "58,500"
    assert not part.failed


def test_a_skipped_and_a_failed_peer_have_a_line_and_no_row() -> None:
    skipped, failed = Result(PEERS["envoy"], skipped="get it so"), Result(PEERS["haproxy"], failed="wrong key passed")
    part = report.lane_part([measured("nginx", 1.0), skipped, failed], Options())
    assert len(part.rows) == 1
    assert any("get it so" in line for line in part.lines)
    assert any("FAILED: wrong key passed" in line for line in part.lines)
    assert part.failed


def test_foreign_load_is_named() -> None:
    part = report.lane_part([measured("nginx", 1.0, others=0.42)], Options())
    assert any("42%" in line for line in part.lines)


def test_json_holds_every_round() -> None:
    part = report.lane_part([measured("sidecar", 1.0, 2.0)], Options())
    document = json.loads(report.as_json([part], "machine", "2026-11-23"))
    assert [turn["sample"]["rate"] for turn in document["the_lane"]["peers"][0]["rounds"]] == [1.0, 2.0]


def test_the_page_is_filled_between_its_markers_again_and_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for body in ("first", "second"):
        report.write_between_markers(page, body)
    assert page.read_text() == f"before\n{report.BEGIN}\n\nsecond\n\n{report.END}\nafter\n"


@pytest.mark.parametrize("text", ["", report.BEGIN, f"{report.END}{report.BEGIN}", f"{report.BEGIN}{report.END}" * 2])
def test_a_page_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="needs one line"):
        report.write_between_markers(page, "body")
    assert page.read_text() == text
