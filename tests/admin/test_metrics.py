"""The exposition: promtool's lint rules, both formats, right numbers, bounded, named as in docs/metrics.md."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin.families import FAMILIES
from sidecar.admin.metrics import Exposition
from sidecar.admin.rows import DURATION_BOUNDS_US, OVERHEAD_BOUNDS_US
from sidecar.core.latency import bucket_index, bucket_upper_us
from sidecar.metering import OTHER

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
# promtool's lists (prometheus/util/promlint): units that are not base units, abbreviations of units, type words.
NOT_BASE_UNITS = {
    "milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks", "bits", "kilobytes",
    "kibibytes", "megabytes", "mibibytes", "gigabytes", "percent", "celcius", "milliamperes",
}  # fmt: skip
ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"}
TYPE_WORDS = {"counter", "gauge", "histogram", "summary"}


async def text_of(world: Any, accept: str = "") -> str:
    body, _ = await Exposition(world.sources).scrape(accept)
    return body.decode()


def fill(world: Any) -> None:
    world.tallies.get("search", "pro", 200).add(5, 1_500_000, 11, 13, 1_000, 900)
    world.tallies.get("search", "pro", 0).add(0, 0, 1, 2, 90_000_000, 90_000_000)
    world.tallies.route("search").in_flight += 3
    world.tallies.refuse(None, "key_missing")


async def samples(world: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(await text_of(world))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


async def test_the_exposition_passes_promtools_rules(world: Any) -> None:
    fill(world)
    text = await text_of(world)
    types: dict[str, str] = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.M))
    ours = {name: kind for name, kind in types.items() if name.startswith("sidecar_")}
    assert len(ours) == len(FAMILIES)
    for name, kind in ours.items():
        words = name.split("_")
        assert helps[name]
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), "lower case, no colon"
        assert name.endswith("_total") == (kind == "counter")
        assert not TYPE_WORDS & set(words)
        assert not NOT_BASE_UNITS & set(words)
        assert not ABBREVIATIONS & set(words)
        assert kind in ("counter", "gauge", "histogram")
        if kind != "histogram":
            assert words[-1] not in ("count", "sum", "bucket")
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert ("le" in sample.labels) == sample.name.endswith("_bucket")
            assert "quantile" not in sample.labels or not sample.name.startswith("sidecar_")


async def test_every_line_stands_once_and_families_are_not_mixed(world: Any) -> None:
    fill(world)
    lines = [line.rpartition(" ")[0] for line in (await text_of(world)).splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


async def test_openmetrics_is_given_to_who_asks_for_it(world: Any) -> None:
    fill(world)
    exposition = Exposition(world.sources)
    body, content_type = await exposition.scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    families = {family.name: family for family in openmetrics_parser.text_string_to_metric_families(body.decode())}
    assert families["sidecar_requests"].type == "counter"
    assert families["sidecar_build"].type == "info"
    plain, plain_type = await exposition.scrape("*/*")
    assert plain_type.startswith("text/plain")
    assert b"# EOF" not in plain


async def test_the_numbers_are_those_of_the_tallies(world: Any) -> None:
    fill(world)
    found = await samples(world)
    series = (("plan", "pro"), ("route", "search"), ("status", "2xx"))
    none = (("plan", "pro"), ("route", "search"), ("status", "none"))
    route = (("route", "search"),)
    assert found["sidecar_requests_total", series] == found["sidecar_requests_total", none] == 1
    assert found["sidecar_units_total", series] == 5
    assert found["sidecar_cost_total", (("currency", "USD"), ("plan", "pro"), ("route", "search"))] == 1.5
    assert found["sidecar_request_body_bytes_total", route] == 12
    assert found["sidecar_response_body_bytes_total", route] == 15
    assert found["sidecar_requests_in_flight", route] == 3
    assert found["sidecar_refusals_total", (("code", "key_missing"), ("route", "_none"))] == 1
    assert found["sidecar_request_duration_seconds_count", route] == 2
    assert found["sidecar_request_duration_seconds_sum", route] == pytest.approx(90.001)
    assert found["sidecar_request_duration_seconds_bucket", (("le", "0.000512"), *route)] == 0
    assert found["sidecar_request_duration_seconds_bucket", (("le", "0.001024"), *route)] == 1
    assert found["sidecar_request_duration_seconds_bucket", (("le", "58.720256"), *route)] == 1
    assert found["sidecar_request_duration_seconds_bucket", (("le", "+Inf"), *route)] == 2
    assert found["sidecar_overhead_seconds_sum", route] == pytest.approx(0.0001)
    target = (("target", "http://127.0.0.1:9000"), ("upstream", "api"))
    assert found["sidecar_upstream_up", target] == 1
    assert found["sidecar_upstream_failures_total", (("kind", "connect"), *target)] == 4
    assert found["sidecar_upstream_breaker_state", (("state", "closed"), *target)] == 1
    assert found["sidecar_upstream_breaker_state", (("state", "open"), *target)] == 0
    assert found["sidecar_limit_refused_total", (("limit", "steady"), ("plan", "pro"))] == 2
    assert found["sidecar_quota_refused_total", (("plan", "free"), ("quota", "monthly"))] == 1
    assert found["sidecar_ledger_lag_seconds", ()] == 0.5
    assert found["sidecar_client_connections", ()] == 7
    assert found["sidecar_build_info", (("policy", "abcd"), ("python", "3.11.7"), ("version", "0.1.0"))] == 1


async def test_labels_are_escaped(world: Any) -> None:
    world.tallies.refuse('a"b\\c\nd', "key_missing")
    assert ("sidecar_refusals_total", (("code", "key_missing"), ("route", 'a"b\\c\nd'))) in await samples(world)


async def test_the_scrape_is_bounded(world: Any) -> None:
    """However many routes and plans there were, the rest is one series (apache/apisix#10000, #7211, #11456)."""
    for number in range(5_000):
        world.tallies.get("search", f"plan{number}", 200).add(1, 0, 0, 0, 9, 8)
    found = await samples(world)
    requests = {labels: value for (name, labels), value in found.items() if name == "sidecar_requests_total"}
    assert len(requests) == 2_001
    assert requests[("plan", OTHER), ("route", OTHER), ("status", "2xx")] == 3_000


@pytest.mark.parametrize("bounds", [DURATION_BOUNDS_US, OVERHEAD_BOUNDS_US])
def test_exported_bounds_are_bounds_of_internal_buckets(bounds: tuple[int, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
    for bound in bounds:
        assert bucket_upper_us(bucket_index(bound) - 1) == bound


def test_every_metric_is_documented_with_its_kind_and_labels() -> None:
    rows = re.findall(r"^\| `(sidecar_\w+)` \| (\w+) \| ([^|]*) \|", DOCS.read_text(), re.M)
    documented = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    ours = set()
    for family in FAMILIES:
        name = "sidecar_" + family.name + ("_info" if family.kind == "info" else "")
        ours.add((name, "gauge" if family.kind == "info" else family.kind, family.labels))
    assert documented == ours
    assert len(rows) == len(documented)
