"""What a tenant pays for a calendar month under its plan."""

from collections.abc import Mapping

from sidecar.core.money import Money
from sidecar.core.policy import Price


def price_of(price: Price, totals: Mapping[str, int]) -> Money:
    """The exact price of a month in which the meters reached ``totals``: the base, and every started package beyond
    what is included. A meter that is absent from ``totals`` was not used.

    ValueError when the price mixes currencies: amounts of different currencies have no sum.
    """
    amount = price.base.amount
    for part in price.meters:
        if part.amount.currency != price.base.currency:
            raise ValueError(
                f"the price of {part.meter} is in {part.amount.currency}, the base in {price.base.currency}"
            )
        beyond = max(0, totals.get(part.meter, 0) - part.included)
        amount += -(-beyond // part.per) * part.amount.amount
    return Money(amount, price.base.currency)
