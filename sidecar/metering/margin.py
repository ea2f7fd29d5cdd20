"""What tenants earn us, what serving them costs, and the least a successful request has to bring in. Exact and pure.

Revenue of a tenant in a stretch of time is the sum over its parts. A part lies in one billing period of the tenant (the
calendar month, UTC, where it has no other) and in one calendar month. It earns

- of the base fee, which is a month's, the part of the billing period that is covered, as an exact fraction of its
  microseconds; a billing period of several months has the fee as many times, one that is no number of months has it by
  the calendar month;
- of each priced meter, its price at the end of the part less its price at the part's beginning, both of the billing
  period's total up to there (``overage_of``): the first calls of a period use up what is included, later ones pay. A
  package counts in the part in which it is begun; where all units get cheaper at a step, the part in which it is
  reached may earn less than nothing.

So the parts of a billing period add up to its price, however it is cut. The revenue of a part is split over routes: a
meter's by the routes' shares of that meter in the calendar month, the base by their shares of units (of requests, where
no route has units). A base without any call belongs to NO_ROUTE. A tenant's revenue is rounded once, to micro-units;
its shares are rounded so that they add up to it (``apportion``). From there on everything is a sum of integers.

Under a prepaid plan what is used earns nothing by itself. What is burned of credits does, as far as they were paid for,
and what is left of them when they expire (metering.earned); it is split like the price of what was used.

Usage of test keys earns nothing: it is not given to these functions, and its cost is no part of the baseline.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, TypeVar

from sidecar.core.clock import NS_PER_US
from sidecar.core.money import MICROS, format_amount, round_micros
from sidecar.core.periods import months_of, period_bounds
from sidecar.core.policy import Price
from sidecar.core.price import overage_of
from sidecar.metering.tally import NO_ROUTE

Key = TypeVar("Key", bound=Hashable)


class Part(NamedTuple):
    """[since_us, until_us) of the billing period [start_us, end_us), within the calendar month that begins at
    ``month_us``; Unix microseconds. ``fee_us``: the time for which a base fee is owed once."""

    since_us: int
    until_us: int
    start_us: int
    end_us: int
    month_us: int
    fee_us: Fraction

    def fees(self, created_us: int = 0) -> Fraction:
        """How many base fees the part is worth to a tenant that exists since ``created_us``."""
        return max(Fraction(0), Fraction(self.until_us - max(self.since_us, created_us)) / self.fee_us)

    def opens(self, created_us: int = 0) -> bool:
        """Whether the billing period begins here, or the tenant within it."""
        return self.since_us <= max(self.start_us, created_us) < self.until_us


@dataclass(slots=True)
class RouteUse:
    """What the live calls of one route came to in one part of a month."""

    requests: int = 0
    units: int = 0
    meters: dict[str, int] = field(default_factory=dict)


def period_parts(since_us: int, until_us: int, cycle: str = "month") -> list[Part]:
    """The stretch cut at the beginnings of the billing periods of ``cycle`` (core.periods) and of calendar months
    (UTC), in order; empty when it is."""
    months = months_of(cycle)
    parts = []
    while since_us < until_us:
        start_us, end_us = (ns // NS_PER_US for ns in period_bounds(cycle, since_us * NS_PER_US))
        month_us, next_us = (ns // NS_PER_US for ns in period_bounds("month", since_us * NS_PER_US))
        fee_us = Fraction(end_us - start_us, months) if months else Fraction(next_us - month_us)
        end = min(until_us, end_us, next_us)
        parts.append(Part(since_us, end, start_us, end_us, month_us, fee_us))
        since_us = end
    return parts


@dataclass(frozen=True, slots=True)
class PartUse:
    """``before``: the meters' totals from the billing period's beginning to the part's; ``used``: those of the part;
    ``routes``: the live calls of its calendar month, by which they are shared."""

    part: Part
    before: Mapping[str, int]
    used: Mapping[str, int]
    routes: Mapping[str, RouteUse]


class Recognised(NamedTuple):
    """What prepaid credits brought in within one part, in micro-units: ``used`` by what was burned of them, ``expired``
    by what was left of those that expired."""

    used: int = 0
    expired: int = 0


def owed(price: Price, use: PartUse, created_us: int = 0) -> dict[str, Fraction]:
    """What is owed whatever is used, by route, in units of the price's currency: the base, and the fee of first tiers.
    ``created_us``: since when the tenant exists."""
    found: dict[str, Fraction] = {}
    units = {name: of.units for name, of in use.routes.items()}
    split(found, price.base.amount * use.part.fees(created_us), units, use.routes)
    for meter in price.meters if use.part.opens(created_us) else ():
        split(found, overage_of(meter, 0), _shares(meter.meter, use), use.routes)
    return found


def metered(price: Price, use: PartUse) -> dict[str, Fraction]:
    """The price of what was used, by route, as above."""
    found: dict[str, Fraction] = {}
    for meter in price.meters:
        earlier = use.before.get(meter.meter, 0)
        amount = overage_of(meter, earlier + use.used.get(meter.meter, 0)) - overage_of(meter, earlier)
        split(found, amount, _shares(meter.meter, use), use.routes)
    return found


def metered_micros(price: Price, use: PartUse) -> int:
    """The price of what was used, in micro-units rounded as credits are burned: at both ends of the part."""
    before = after = Fraction(0)
    for meter in price.meters:
        earlier = use.before.get(meter.meter, 0)
        before += overage_of(meter, earlier) - overage_of(meter, 0)
        after += overage_of(meter, earlier + use.used.get(meter.meter, 0)) - overage_of(meter, 0)
    return round_micros(after * MICROS) - round_micros(before * MICROS)


def _shares(meter: str, use: PartUse) -> dict[str, int]:
    return {name: of.meters.get(meter, 0) for name, of in use.routes.items()}


def split(
    found: dict[str, Fraction], amount: Fraction, weights: Mapping[str, int | Fraction], routes: Mapping[str, RouteUse]
) -> None:
    """Adds the amount to the routes by their weights; by their requests, where these come to nothing; to NO_ROUTE where
    there are none."""
    if not amount:
        return
    if not sum(weights.values()):
        weights = {name: use.requests for name, use in routes.items()}
    total = sum(weights.values())
    for name, weight in weights.items() if total else ((NO_ROUTE, 1),):
        if weight:
            found[name] = found.get(name, Fraction(0)) + amount * weight / (total or 1)


def apportion(shares: Mapping[Key, Fraction]) -> dict[Key, int]:
    """Amounts in micro-units that add up to the rounded sum of ``shares`` (units of a currency): each is rounded down,
    and what is missing goes to those that lost most, earlier ones first."""
    exact = {key: share * MICROS for key, share in shares.items()}
    rounded = {key: value.numerator // value.denominator for key, value in exact.items()}
    missing = round_micros(sum(exact.values(), Fraction(0))) - sum(rounded.values())
    for key in sorted(exact, key=lambda key: rounded[key] - exact[key])[:missing]:
        rounded[key] += 1
    return rounded


@dataclass(slots=True)
class Account:
    """Both sides of one tenant, plan, route or month, in micro-units.

    ``credits``: of the revenue, what prepaid credits brought in. ``unpaid``: the price of use under a prepaid plan that
    brought in nothing, because credits that were given away paid for it, or none.

    ``requests`` and ``cost`` are of all live calls, failed ones too; ``successful``: those answered with 2xx or 3xx.
    ``sandbox_cost``: what test keys cost; it is in nothing else here.
    """

    revenue: int = 0
    cost: int = 0
    requests: int = 0
    successful: int = 0
    sandbox_cost: int = 0
    credits: int = 0
    unpaid: int = 0

    @property
    def margin(self) -> int:
        """Revenue less cost."""
        return self.revenue - self.cost

    @property
    def rate(self) -> Fraction | None:
        """Margin as a part of the revenue; None without any."""
        return Fraction(self.margin, self.revenue) if self.revenue else None

    def add(self, other: "Account") -> None:
        """Adds the other's numbers to these."""
        self.revenue += other.revenue
        self.cost += other.cost
        self.requests += other.requests
        self.successful += other.successful
        self.sandbox_cost += other.sandbox_cost
        self.credits += other.credits
        self.unpaid += other.unpaid

    def below(self, floor: Fraction | None) -> bool:
        """Whether a successful request brought in less than ``floor``; without any there is nothing to compare."""
        return floor is not None and self.successful > 0 and self.revenue < floor * self.successful


def baseline(cost: int, successful: int) -> Fraction | None:
    """What all live calls cost, failed ones too, per successful one, in micro-units; None when none was successful."""
    return Fraction(cost, successful) if successful else None


def price_floor(base: Fraction | None, buffer: Fraction) -> Fraction | None:
    """The least revenue per successful request, in micro-units: the baseline and the buffer on it."""
    return None if base is None else base * (1 + buffer)


def parse_buffer(text: str) -> Fraction:
    """``40%`` as 2/5. ValueError says what to write."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,2})?)\s*%", text.strip())
    if match is None:
        raise ValueError(f'"{text[:40]}" is no part; write it as a percentage such as 40%')
    if Fraction(match[1]) > 100:
        raise ValueError(f'"{text[:40]}" is out of range; write 0% to 100%')
    return Fraction(match[1]) / 100


def format_buffer(part: Fraction) -> str:
    """The inverse: 2/5 is ``40%``."""
    return f"{format_amount(part * 100).removesuffix('.00')}%"
