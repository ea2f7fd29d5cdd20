"""A price as integers: what meters' totals cost beyond the base, exactly, in a microsecond.

The sums are those of ``core.price``, whose fractions are brought to one denominator beforehand; a test holds the two
against each other. What is owed without any use, such as the flat fee of a first tier, is left out like the base.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

from sidecar.core.money import MICROS, round_div
from sidecar.core.policy import MeterPrice, Price

_ENDLESS = 1 << 200


class MeterTariff:
    """One meter's: steps of (the last unit, what the units below cost, the rate of a unit, the units below), scaled."""

    __slots__ = ("_included", "_package", "_rate", "_steps", "_volume", "meter")

    def __init__(self, price: MeterPrice, scale: int) -> None:
        self.meter = price.meter
        self._included = price.included
        self._package = price.per if price.mode == "package" else 0
        self._volume = price.mode == "volume"
        per = 1 if price.mode == "package" else price.per
        self._rate = _scaled(price.amount.amount / per, scale)
        self._steps: list[tuple[int, int, int, int]] = []
        below, sum_below = 0, 0
        for tier in price.tiers:
            last = _ENDLESS if tier.up_to is None else tier.up_to
            rate = _scaled(tier.amount.amount / tier.per, scale)
            flat = 0 if tier.flat is None else _scaled(tier.flat.amount, scale)
            self._steps.append((last, flat if self._volume else sum_below + flat, rate, 0 if self._volume else below))
            sum_below += flat + (last - below) * rate
            below = last

    def steps(self, most: int) -> tuple[int, int, tuple[tuple[int, int, int, int], ...]]:
        """The same as plain numbers: a package and its rate, or steps whose units below cost nothing at 0. ``most``:
        stands for no end."""
        if self._package:
            return self._package, self._rate, ()
        if not self._steps:
            included = ((self._included, 0, 0, 0),) if self._included else ()
            return 0, 0, (*included, (most, 0, self._rate, self._included))
        first = self._steps[0][1]
        return 0, 0, tuple((min(last, most), base - first, rate, below) for last, base, rate, below in self._steps)

    def cost(self, total: int) -> int:
        """What ``total`` costs beyond what 0 does, scaled."""
        if total <= 0:
            return 0
        if self._steps:
            first = self._steps[0]
            for last, base, rate, below in self._steps:
                if total <= last:
                    return base + (total - below) * rate - first[1]
        if self._package:
            return -(-total // self._package) * self._rate
        return (total - self._included) * self._rate if total > self._included else 0


class Tariff:
    """The metered part of a price. ``meters``: the order of totals. Costs are in 1 / ``den`` micro-units."""

    __slots__ = ("_parts", "currency", "den", "meters")

    def __init__(self, price: Price, currency: str) -> None:
        self.currency = currency
        rates = [rate * MICROS for part in price.meters for rate in _rates(part)]
        self.den = lcm(1, *(rate.denominator for rate in rates))
        scale = self.den * MICROS
        self._parts = [MeterTariff(part, scale) for part in price.meters]
        self.meters = tuple(part.meter for part in price.meters)

    @property
    def parts(self) -> Sequence[MeterTariff]:
        """Of the meters, in their order."""
        return self._parts

    def cost(self, totals: list[int]) -> int:
        """What these totals of one period cost beyond the base, in 1 / ``den`` micro-units."""
        cost = 0
        for index, part in enumerate(self._parts):
            cost += part.cost(totals[index])
        return cost

    def micros(self, totals: list[int]) -> int:
        """The same rounded to micro-units, by the one rule."""
        return round_div(self.cost(totals), self.den)


def _scaled(amount: Fraction, scale: int) -> int:
    exact = amount * scale
    return exact.numerator // exact.denominator


def _rates(part: MeterPrice) -> list[Fraction]:
    rates = [part.amount.amount / (1 if part.mode == "package" else part.per)]
    for tier in part.tiers:
        rates.append(tier.amount.amount / tier.per)
        if tier.flat is not None:
            rates.append(tier.flat.amount)
    return rates
