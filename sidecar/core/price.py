"""What a tenant pays for a calendar month under its plan, exactly as Stripe computes it before it rounds lines."""

from collections.abc import Mapping
from fractions import Fraction

from sidecar.core.money import Money
from sidecar.core.policy import MeterPrice, Price, Tier


def price_of(price: Price, totals: Mapping[str, int]) -> Money:
    """The exact price of a month in which the meters reached ``totals``: the base and what each meter costs beyond it.
    A meter that is absent from ``totals`` was not used.

    ValueError when the price mixes currencies: amounts of different currencies have no sum.
    """
    amount = price.base.amount
    for part in price.meters:
        amount += overage_of(part, totals.get(part.meter, 0))
    return Money(amount, currency_of(price))


def overage_of(part: MeterPrice, total: int) -> Fraction:
    """What a meter's ``total`` of a month costs beyond the base, in units of its currency, by the price's mode.

    A negative total, which corrections can leave behind, counts as 0, as it does on an invoice. The flat fee of a first
    tier is owed at 0 too.
    """
    used = max(0, total)
    if part.mode == "package":
        return -(-used // part.per) * part.amount.amount
    if part.mode == "graduated":
        return _graduated(part.tiers, used)
    if part.mode == "volume":
        reached = next(tier for tier in part.tiers if tier.up_to is None or used <= tier.up_to)
        return used * reached.amount.amount / reached.per + _flat(reached)
    return max(0, used - part.included) * part.amount.amount / part.per


def _graduated(tiers: tuple[Tier, ...], used: int) -> Fraction:
    amount, below = Fraction(0), 0
    for tier in tiers:
        if below and used <= below:
            break
        end = used if tier.up_to is None else min(used, tier.up_to)
        amount += (end - below) * tier.amount.amount / tier.per + _flat(tier)
        below = end if tier.up_to is None else tier.up_to
    return amount


def _flat(tier: Tier) -> Fraction:
    return tier.flat.amount if tier.flat is not None else Fraction(0)


def currency_of(price: Price) -> str:
    """The one currency of a price; amounts of nothing have none of their own. ValueError when there are two."""
    first, currency = "the base", price.base.currency if price.base.amount else ""
    for what, money in _amounts(price):
        if not money.amount or money.currency == currency:
            continue
        if currency:
            raise ValueError(f"{what} is in {money.currency}, {first} in {currency}")
        first, currency = what, money.currency
    return currency or price.base.currency


def _amounts(price: Price) -> list[tuple[str, Money]]:
    found = [("the base", price.base)]
    for part in price.meters:
        what = f"the price of {part.meter}"
        found.append((what, part.amount))
        for tier in part.tiers:
            found += [(what, money) for money in (tier.amount, tier.flat) if money is not None]
    return found
