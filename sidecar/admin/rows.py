"""How the samples of a metric are read out of one scrape's readings: label values and the number of each."""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from sidecar.admin.sources import Readings
from sidecar.billing import BillingReading
from sidecar.core.money import MICROS
from sidecar.metering import Histogram

# A histogram's value maps (suffix, le) to a number.
Value = float | Mapping[tuple[str, str], float]
Row = tuple[tuple[str, ...], Value]
_US_PER_S = 1_000_000
# Bounds of the exported buckets in microseconds: those internal ones that lie nearest to 1, 2.5 and 5 of every decade.
DURATION_BOUNDS_US = (
    256, 512, 1_024, 2_560, 5_120, 10_240, 24_576, 49_152, 98_304, 262_144, 524_288, 1_048_576, 2_621_440, 5_242_880,
    10_485_760, 29_360_128, 58_720_256,
)  # fmt: skip
OVERHEAD_BOUNDS_US = (
    10, 24, 48, 64, 96, 128, 192, 256, 512, 1_024, 2_560, 5_120, 10_240, 49_152, 98_304, 524_288, 1_048_576,
)  # fmt: skip


def one(number: Callable[[Readings], float]) -> Callable[[Readings], Iterable[Row]]:
    return lambda readings: [((), number(readings))]


def by_pair(table: Callable[[Readings], Mapping[tuple[str, str], float]]) -> Callable[[Readings], Iterable[Row]]:
    return lambda readings: table(readings).items()


def by_series(field: str) -> Callable[[Readings], Iterable[Row]]:
    def read(readings: Readings) -> Iterable[Row]:
        return (((s.route, s.plan, s.status_class), getattr(s, field)) for s in readings.tallies.series)

    return read


def by_route(field: str) -> Callable[[Readings], Iterable[Row]]:
    """Sums over plans and status classes: bytes by plan answer no question that is worth the series."""

    def read(readings: Readings) -> Iterable[Row]:
        sums: dict[str, int] = {}
        for series in readings.tallies.series:
            sums[series.route] = sums.get(series.route, 0) + getattr(series, field)
        return (((route,), value) for route, value in sums.items())

    return read


def cost(readings: Readings) -> Iterable[Row]:
    sums: dict[tuple[str, str], int] = {}
    for series in readings.tallies.series:
        sums[series.route, series.plan] = sums.get((series.route, series.plan), 0) + series.cost
    return (((*pair, readings.currency), value / MICROS) for pair, value in sums.items())


def histogram(field: str, bounds_us: tuple[int, ...]) -> Callable[[Readings], Iterable[Row]]:
    les = [str(bound / _US_PER_S) for bound in bounds_us] + ["+Inf"]

    def read(readings: Readings) -> Iterable[Row]:
        for route in readings.tallies.routes:
            found: Histogram = getattr(route, field)
            counts = found.cumulative(bounds_us)
            value: dict[tuple[str, str], float] = {("_bucket", le): n for le, n in zip(les, counts, strict=True)}
            value["_count", ""] = counts[-1]
            value["_sum", ""] = found.sum_us / _US_PER_S
            yield (route.route,), value

    return read


def by_target(field: str) -> Callable[[Readings], Iterable[Row]]:
    return lambda readings: [((u.upstream, u.target), float(getattr(u, field))) for u in readings.upstreams]


def breakers(readings: Readings) -> Iterable[Row]:
    states = ("closed", "half_open", "open")
    return (((u.upstream, u.target, s), float(u.breaker == s)) for u in readings.upstreams for s in states)


def failures(readings: Readings) -> Iterable[Row]:
    return chain.from_iterable(
        (((u.upstream, u.target, kind), count) for kind, count in u.failures.items()) for u in readings.upstreams
    )


def replies(readings: Readings) -> Iterable[Row]:
    return chain.from_iterable(
        (((u.upstream, u.target, f"{c}xx"), float(n)) for c, n in enumerate(u.replies) if n) for u in readings.upstreams
    )


def retries(readings: Readings) -> Iterable[Row]:
    return chain.from_iterable(
        (((u.upstream, u.target, why), float(n)) for why, n in u.retries.items()) for u in readings.upstreams
    )


def billing_once(number: Callable[[BillingReading], float | None]) -> Callable[[Readings], Iterable[Row]]:
    """One number, where usage is reported to somebody."""

    def read(readings: Readings) -> Iterable[Row]:
        value = None if readings.billing is None else number(readings.billing)
        return [] if value is None else [((), value)]

    return read


def billing_rows(place: int) -> Callable[[Readings], Iterable[Row]]:
    """0: how many by state, 1: the age of the oldest."""

    def read(readings: Readings) -> Iterable[Row]:
        rows = readings.billing.rows if readings.billing is not None else {}
        return (((state,), values[place]) for state, values in rows.items())

    return read


def billing_outcomes(readings: Readings) -> Iterable[Row]:
    outcomes = readings.billing.outcomes if readings.billing is not None else {}
    return (((outcome,), count) for outcome, count in outcomes.items())
