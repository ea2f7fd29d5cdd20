"""What a price at Stripe asks for, in one form for both sides: what the policies want, and what Stripe has.

Amounts are exact fractions of the currency's smallest unit, as Stripe counts them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sidecar.core.money import MINOR_DIGITS, format_amount
from sidecar.core.policy import MeterPrice, Tier

DECIMALS = 12  # of unit_amount_decimal


@dataclass(frozen=True, slots=True)
class Step:
    """Units up to ``up_to`` (None: all the rest) cost ``unit`` each; reaching it costs ``flat``."""

    up_to: int | None
    unit: Fraction
    flat: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Terms:
    """A monthly price. ``event``: of the meter that it is metered by; None: a fee. Either ``unit``, for each one or for
    every started ``package``, or the ``steps`` of ``mode``."""

    currency: str
    event: str | None
    unit: Fraction = Fraction(0)
    package: int = 1
    mode: str = ""
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        if self.steps:
            return f"{self.mode}: {', '.join(map(self._step, self.steps))}"
        if self.event is None:
            return f"{self._money(self.unit)} a month"
        per = "each" if self.package == 1 else f"per started {self.package:,}"
        return f"{self._money(self.unit)} {per}"

    def _step(self, step: Step) -> str:
        where = "the rest" if step.up_to is None else f"up to {step.up_to:,}"
        flat = f" and {self._money(step.flat)} once" if step.flat else ""
        return f"{where} {self._money(step.unit)} each{flat}"

    def _money(self, minor: Fraction) -> str:
        scale: int = 10 ** MINOR_DIGITS.get(self.currency.upper(), 2)
        return f"{format_amount(minor / scale)} {self.currency.upper()}"


def metered(price: MeterPrice, event: str, currency: str) -> Terms:
    """The terms of a meter's price. What is included is a first tier of nothing."""
    each = price.amount.minor / price.per
    if price.tiers:
        return Terms(currency, event, mode=price.mode, steps=tuple(map(_tier, price.tiers)))
    if price.mode == "package":
        return Terms(currency, event, price.amount.minor, price.per)
    if price.included:
        steps = (Step(price.included, Fraction(0)), Step(None, each))
        return Terms(currency, event, mode="graduated", steps=steps)
    return Terms(currency, event, each)


def _tier(tier: Tier) -> Step:
    return Step(tier.up_to, tier.amount.minor / tier.per, tier.flat.minor if tier.flat is not None else Fraction(0))


def decimal(minor: Fraction) -> str:
    """As Stripe takes it: a plain decimal, never ``1E-7``. ValueError when DECIMALS places cannot hold it."""
    scaled = minor * 10**DECIMALS
    if scaled.denominator != 1 or scaled < 0:
        raise ValueError(f"{minor} cannot be written with {DECIMALS} decimals")
    whole, part = divmod(scaled.numerator, 10**DECIMALS)
    places = f"{part:0{DECIMALS}d}".rstrip("0")
    return f"{whole}.{places}" if places else str(whole)


def params(terms: Terms, meter_id: str | None) -> dict[str, Any]:
    """What makes a price of these terms at Stripe."""
    recurring: dict[str, Any] = {"interval": "month", "usage_type": "licensed"}
    if meter_id is not None:
        recurring |= {"usage_type": "metered", "meter": meter_id}
    made: dict[str, Any] = {"currency": terms.currency, "recurring": recurring}
    if terms.steps:
        tiers = [_params_of(step) for step in terms.steps]
        return made | {"billing_scheme": "tiered", "tiers_mode": terms.mode, "tiers": tiers}
    made |= {"billing_scheme": "per_unit", "unit_amount_decimal": decimal(terms.unit)}
    if terms.package != 1:
        made["transform_quantity"] = {"divide_by": terms.package, "round": "up"}
    return made


def _params_of(step: Step) -> dict[str, Any]:
    up_to: int | str = "inf" if step.up_to is None else step.up_to
    made: dict[str, Any] = {"up_to": up_to, "unit_amount_decimal": decimal(step.unit)}
    return made | {"flat_amount_decimal": decimal(step.flat)} if step.flat else made


def read(price: Mapping[str, Any], events: Mapping[str, str]) -> Terms | None:
    """The terms of a price as Stripe shows it, its tiers too; None when they are of a kind that is never made here.
    ``events``: the event name of each meter's id."""
    recurring = price.get("recurring") or {}
    if recurring.get("interval") != "month" or recurring.get("interval_count", 1) != 1:
        return None
    meter = recurring.get("meter")
    if (meter is None) != (recurring.get("usage_type") == "licensed") or (meter is not None and meter not in events):
        return None
    event = None if meter is None else events[meter]
    currency = str(price.get("currency"))
    if price.get("billing_scheme") == "tiered":
        steps = tuple(_read_step(tier) for tier in price.get("tiers") or ())
        return Terms(currency, event, mode=str(price.get("tiers_mode")), steps=steps) if steps else None
    package = price.get("transform_quantity") or {"divide_by": 1, "round": "up"}
    if package.get("round") != "up":
        return None
    return Terms(currency, event, _amount(price, "unit_amount"), int(package["divide_by"]))


def _read_step(tier: Mapping[str, Any]) -> Step:
    up_to = tier.get("up_to")
    return Step(None if up_to is None else int(up_to), _amount(tier, "unit_amount"), _amount(tier, "flat_amount"))


def _amount(shown: Mapping[str, Any], key: str) -> Fraction:
    """The exact one of the two fields, which Stripe writes as a text or not at all."""
    value = shown.get(f"{key}_decimal")
    if value is None:
        value = shown.get(key)
    return Fraction(0) if value is None else Fraction(Decimal(str(value)))
