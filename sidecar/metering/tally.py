"""The counters behind the metrics: plain integers that the loop's thread adds to and the scrape copies.

Bounds: at most ``max_series`` combinations of route, plan and status class (2,000 unless told), as many of route and
refusal code, as many of meter and anomaly, and as many routes; what comes beyond them is counted under the value
``_other``. A combination takes about 0.3 KiB and a route with its three histograms 4 to 15 KiB: 2,000 of each take at
most 30 MiB, a usual configuration (ten routes, four plans) less than 0.3 MiB. Labels come from the configuration alone,
never from a request, and nothing is ever forgotten: counters survive reloads.
"""

from dataclasses import dataclass
from typing import NamedTuple

from sidecar.core.latency import MAX_US
from sidecar.metering.histogram import Histogram

OTHER = "_other"  # beyond the bound
NO_ROUTE = "_none"  # refused before a route was found
_CLASS_NAMES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class RouteTally:
    """One route's calls in flight and its three histograms; the gateway holds it and moves ``in_flight`` itself."""

    __slots__ = ("in_flight", "name", "overhead", "total", "upstream")

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        self.total = Histogram()
        self.upstream = Histogram()
        self.overhead = Histogram()


class Tally:
    """Sums of the calls of one route, plan and status class; the route's histograms are shared by all its tallies."""

    __slots__ = ("bytes_in", "bytes_out", "cost", "plan", "requests", "route", "status_class", "units")

    def __init__(self, route: RouteTally, plan: str, status_class: str) -> None:
        self.route = route
        self.plan = plan
        self.status_class = status_class
        self.requests = self.units = self.cost = self.bytes_in = self.bytes_out = 0

    def add(self, units: int, cost: int, bytes_in: int, bytes_out: int, total_us: int, upstream_us: int) -> None:
        """Counts one call: micro-units of cost, body bytes, microseconds in all and in the upstream.

        The sidecar's own share is the difference. Times that make no sense (clocks read in the wrong order, more than
        71 minutes) are cut to the nearest that do.
        """
        if not 0 <= upstream_us <= total_us <= MAX_US:
            total_us = min(max(total_us, 0), MAX_US)
            upstream_us = min(max(upstream_us, 0), total_us)
        self.requests += 1
        self.units += units
        self.cost += cost
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        # bucket_index is written out three times: the calls would take as long as all the rest.
        route = self.route
        histogram = route.total
        histogram.sum_us += total_us
        shift = total_us.bit_length() - 3
        histogram.counts[(shift << 2) + (total_us >> shift) if shift > 0 else total_us] += 1
        histogram = route.upstream
        histogram.sum_us += upstream_us
        shift = upstream_us.bit_length() - 3
        histogram.counts[(shift << 2) + (upstream_us >> shift) if shift > 0 else upstream_us] += 1
        own_us = total_us - upstream_us
        histogram = route.overhead
        histogram.sum_us += own_us
        shift = own_us.bit_length() - 3
        histogram.counts[(shift << 2) + (own_us >> shift) if shift > 0 else own_us] += 1


class SeriesReading(NamedTuple):
    """One Tally as it was."""

    route: str
    plan: str
    status_class: str
    requests: int
    units: int
    cost: int
    bytes_in: int
    bytes_out: int


class RouteReading(NamedTuple):
    """One RouteTally as it was."""

    route: str
    in_flight: int
    total: Histogram
    upstream: Histogram
    overhead: Histogram


@dataclass(frozen=True, slots=True)
class TallyReading:
    """All tallies as they were; ``refusals`` maps route and code to how many, ``anomalies`` meter and reason."""

    series: tuple[SeriesReading, ...]
    routes: tuple[RouteReading, ...]
    refusals: dict[tuple[str, str], int]
    anomalies: dict[tuple[str, str], int]


class Tallies:
    """Finds the tally of a call; one per process, used by the loop's thread alone."""

    __slots__ = ("_anomalies", "_max", "_refusals", "_routes", "_series")

    def __init__(self, max_series: int = 2_000) -> None:
        self._max = max_series
        self._series: dict[tuple[str, str, int], Tally] = {}
        self._routes: dict[str, RouteTally] = {}
        self._refusals: dict[tuple[str, str], int] = {}
        self._anomalies: dict[tuple[str, str], int] = {}

    def get(self, route: str, plan: str, status: int) -> Tally:
        """The tally for a reply of ``status`` (0 when there was none)."""
        status_class = status // 100
        found = self._series.get((route, plan, status_class))
        return found if found is not None else self._new_series(route, plan, status_class)

    def route(self, name: str) -> RouteTally:
        """The route's own tally; give back to the same object what was added to its ``in_flight``."""
        found = self._routes.get(name)
        if found is None:
            if len(self._routes) >= self._max:
                name = OTHER
            found = self._routes.setdefault(name, RouteTally(name))
        return found

    def refuse(self, route: str | None, code: str) -> None:
        """Counts a refusal; ``route`` None when none was found yet."""
        pair = (NO_ROUTE if route is None else route, code)
        if pair not in self._refusals and len(self._refusals) >= self._max:
            pair = (OTHER, code)  # at most one more for each of core.problems.CODES
        self._refusals[pair] = self._refusals.get(pair, 0) + 1

    def anomaly(self, meter: str, reason: str) -> None:
        """Counts a reply that ``meter`` could not be read from."""
        pair = (meter, reason)
        if pair not in self._anomalies and len(self._anomalies) >= self._max:
            pair = (OTHER, reason)  # at most one more for each of REASONS
        self._anomalies[pair] = self._anomalies.get(pair, 0) + 1

    def read(self) -> TallyReading:
        """A copy of every number; on the loop's thread, so that no call is half counted."""
        return TallyReading(
            tuple(
                SeriesReading(
                    t.route.name, t.plan, t.status_class, t.requests, t.units, t.cost, t.bytes_in, t.bytes_out
                )
                for t in self._series.values()
            ),
            tuple(
                RouteReading(r.name, r.in_flight, r.total.copy(), r.upstream.copy(), r.overhead.copy())
                for r in self._routes.values()
            ),
            dict(self._refusals),
            dict(self._anomalies),
        )

    def _new_series(self, route: str, plan: str, status_class: int) -> Tally:
        if not 0 <= status_class < len(_CLASS_NAMES):
            return self.get(route, plan, 0)
        owner = self.route(route if len(self._series) < self._max else OTHER)
        # A route that is itself beyond the bound has no series of its own either: two of them would share a name.
        key = (route, plan, status_class) if owner.name == route else (OTHER, OTHER, status_class)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = Tally(owner, key[1], _CLASS_NAMES[status_class])
        return found
