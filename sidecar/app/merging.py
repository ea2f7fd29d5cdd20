"""Readings of several lanes as one: counters and sizes are added up, what a lane that ended had counted stays.

A field adds up unless it is named here; what is named in ``_MOMENTS`` is a state, which ends with its process.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from sidecar.app.readings import LaneReadings
from sidecar.metering import Histogram, RouteReading, SeriesReading, TallyReading
from sidecar.upstream import TargetReading

_MOMENTS = frozenset(
    "buckets max_buckets quota_counters bytes_used max_bytes segments open_calls unshipped_bytes unshipped_records "
    "oldest_unshipped_ns failing_since_ns in_flight in_use idle waiting".split()
)
_MOST = frozenset({"oldest_unshipped_ns", "position"})
_BREAKERS = ("closed", "half_open", "open")  # the worst one shows
_T = TypeVar("_T")


def merged(lanes: Sequence[LaneReadings]) -> LaneReadings:
    """All of them as one; at least one."""
    return LaneReadings(
        tallies=_tallies([lane.tallies for lane in lanes]),
        admission=added([lane.admission for lane in lanes]),
        journal=added([lane.journal for lane in lanes]),
        shipper=added([lane.shipper for lane in lanes]),
        upstreams=_targets(target for lane in lanes for target in lane.upstreams),
        connections=sum(lane.connections for lane in lanes),
        blind=any(lane.blind for lane in lanes),
    )


def ended(lane: LaneReadings) -> LaneReadings:
    """What stays of a lane that is no more."""
    tallies = dataclasses.replace(
        lane.tallies, routes=tuple(route._replace(in_flight=0) for route in lane.tallies.routes)
    )
    return LaneReadings(
        tallies=tallies,
        admission=still(lane.admission),
        journal=still(lane.journal),
        shipper=still(lane.shipper),
        upstreams=tuple(dataclasses.replace(still(target), up=True, breaker="closed") for target in lane.upstreams),
        connections=0,
        blind=False,
    )


def still(values: _T) -> _T:
    """The same with every state at nothing."""
    fields = [field for field in _fields(values) if field.name in _MOMENTS]
    nothing = {field.name: None if field.name == "failing_since_ns" else 0 for field in fields}
    any_values: Any = values
    made: _T = dataclasses.replace(any_values, **nothing)
    return made


def added(values: Sequence[_T]) -> _T:
    """Values of one class as one."""
    first: Any = values[0]
    sums = {field.name: _sum(field.name, [getattr(value, field.name) for value in values]) for field in _fields(first)}
    made: _T = type(first)(**sums)
    return made


def _fields(value: Any) -> Iterable[Any]:
    return dataclasses.fields(value)


def _sum(name: str, values: Sequence[Any]) -> Any:
    if name in _MOST:
        return max(values)
    if name == "failing_since_ns":
        return min((value for value in values if value is not None), default=None)
    if isinstance(values[0], dict):
        total: dict[Any, Any] = {}
        for value in values:
            for key, count in value.items():
                total[key] = total.get(key, 0) + count
        return total
    if isinstance(values[0], tuple):
        longest = max(len(value) for value in values)
        return tuple(sum(value[i] for value in values if i < len(value)) for i in range(longest))
    return sum(values)


def _tallies(readings: Sequence[TallyReading]) -> TallyReading:
    series: dict[tuple[str, str, str], SeriesReading] = {}
    routes: dict[str, RouteReading] = {}
    for reading in readings:
        for one in reading.series:
            known = series.get(one[:3])
            sums = one if known is None else SeriesReading(*one[:3], *map(sum, zip(known[3:], one[3:], strict=True)))
            series[one[:3]] = sums
        for route in reading.routes:
            before = routes.get(route.route)
            routes[route.route] = route if before is None else _route(before, route)
    return TallyReading(
        tuple(series.values()),
        tuple(routes.values()),
        _sum("refusals", [reading.refusals for reading in readings]),
        _sum("anomalies", [reading.anomalies for reading in readings]),
    )


def _route(a: RouteReading, b: RouteReading) -> RouteReading:
    return RouteReading(
        a.route,
        a.in_flight + b.in_flight,
        _histogram(a.total, b.total),
        _histogram(a.upstream, b.upstream),
        _histogram(a.overhead, b.overhead),
    )


def _histogram(a: Histogram, b: Histogram) -> Histogram:
    made = a.copy()
    made.counts = [x + y for x, y in zip(a.counts, b.counts, strict=True)]
    made.sum_us = a.sum_us + b.sum_us
    return made


def _targets(readings: Iterable[TargetReading]) -> tuple[TargetReading, ...]:
    """Up where every lane says so: each looks for itself."""
    found: dict[tuple[str, str], TargetReading] = {}
    for one in readings:
        known = found.setdefault((one.upstream, one.target), one)
        if known is one:
            continue
        sums = {
            field.name: _sum(field.name, [getattr(known, field.name), getattr(one, field.name)])
            for field in _fields(one)
            if field.name not in ("upstream", "target", "up", "breaker")
        }
        breaker = max(known.breaker, one.breaker, key=_BREAKERS.index)
        found[one.upstream, one.target] = TargetReading(
            upstream=one.upstream, target=one.target, up=known.up and one.up, breaker=breaker, **sums
        )
    return tuple(found.values())
