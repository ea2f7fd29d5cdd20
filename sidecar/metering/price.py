"""What a tenant pays for a calendar month under its plan."""

from collections.abc import Mapping
from fractions import Fraction

from sidecar.core.money import Money
from sidecar.core.policy import MeterPrice, Price


def price_of(price: Price, totals: Mapping[str, int]) -> Money:
    """The exact price of a month in which the meters reached ``totals``: the base, and every started package beyond
    what is included. A meter that is absent from ``totals`` was not used.

    ValueError when the price mixes currencies: amounts of different currencies have no sum.
    """
    amount = price.base.amount
    for part in price.meters:
        amount += overage_of(part, totals.get(part.meter, 0))
    return Money(amount, currency_of(price))


def overage_of(part: MeterPrice, total: int) -> Fraction:
    """What a meter's ``total`` of a month costs beyond the base, in units of its currency."""
    beyond = max(0, total - part.included)
    return -(-beyond // part.per) * part.amount.amount


def currency_of(price: Price) -> str:
    """The one currency of a price; amounts of nothing have none of their own. ValueError when there are two."""
    said = {"the base": price.base} | {f"the price of {part.meter}": part.amount for part in price.meters}
    first, currency = "the base", price.base.currency if price.base.amount else ""
    for what, money in said.items():
        if not money.amount or money.currency == currency:
            continue
        if currency:
            raise ValueError(f"{what} is in {money.currency}, {first} in {currency}")
        first, currency = what, money.currency
    return currency or price.base.currency
