"""The metrics of the margin: of the running month, and of the running billing periods."""

from collections.abc import Callable, Iterable, Mapping

from sidecar.admin.family import Family
from sidecar.admin.rows import Row
from sidecar.admin.sources import MarginReading, Readings
from sidecar.core.money import MICROS

Sides = Mapping[tuple[str, str], tuple[int, ...]]  # as in MarginReading


def margin_side(of: Callable[[MarginReading], Sides], side: int) -> Callable[[Readings], Iterable[Row]]:
    """One side by plan and route, in units of the currency."""

    def read(readings: Readings) -> Iterable[Row]:
        margin = readings.margin
        return (((*pair, margin.currency), sides[side] / MICROS) for pair, sides in of(margin).items())

    return read


def margin_floor(readings: Readings) -> Iterable[Row]:
    floor = readings.margin.floor
    return [] if floor is None else [((readings.margin.currency,), float(floor / MICROS))]


def margin_once(number: Callable[[Readings], float | None]) -> Callable[[Readings], Iterable[Row]]:
    """One number, as soon as the margin was reckoned for the first time."""

    def read(readings: Readings) -> Iterable[Row]:
        value = number(readings)
        return [] if value is None or readings.margin.age_s is None else [((), value)]

    return read


def by_route(name: str, help: str, of: Callable[[MarginReading], Sides], side: int) -> Family:
    """A gauge of money by plan and route."""
    return Family(name, "gauge", ("plan", "route", "currency"), help, margin_side(of, side))


MARGIN = (
    by_route(
        "margin_revenue",
        "What tenants owe for the running month so far, in units of the currency.",
        lambda m: m.sides,
        0,
    ),
    by_route(
        "margin_cost",
        "What serving them cost in the running month so far, in units of the currency.",
        lambda m: m.sides,
        1,
    ),
    by_route(
        "margin_credits",
        "Of the running month's revenue so far, what prepaid credits brought in, in units of the currency.",
        lambda m: m.sides,
        2,
    ),
    by_route(
        "margin_unpaid",
        "The price of prepaid use in the running month that credits given away paid for, or none.",
        lambda m: m.sides,
        3,
    ),
    by_route(
        "margin_period_revenue",
        "What tenants owe for their running billing periods so far, in units of the currency.",
        lambda m: m.periods,
        0,
    ),
    by_route(
        "margin_period_cost",
        "What serving them cost in their running billing periods so far, in units of the currency.",
        lambda m: m.periods,
        1,
    ),
    Family(
        "margin_price_floor",
        "gauge",
        ("currency",),
        "The least revenue per successful request that covers its cost and the buffer.",
        margin_floor,
    ),
    Family(
        "margin_tenants_below_floor",
        "gauge",
        (),
        "Tenants whose revenue per successful request is below the price floor.",
        margin_once(lambda r: r.margin.below),
    ),
    Family(
        "margin_age_seconds",
        "gauge",
        (),
        "How long ago the margin of the running month was reckoned.",
        margin_once(lambda r: r.margin.age_s),
        "seconds",
    ),
)
