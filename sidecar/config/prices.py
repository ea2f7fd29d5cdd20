"""The table ``price:`` of a plan: what a meter costs in each mode, and which keys of it go together."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from sidecar.config.kinds import BOOLEAN, FREE, MONEY, choice, integer, name
from sidecar.config.tables import Field, ListOf, MapOf, Record, Table
from sidecar.core.money import Money
from sidecar.core.policy import MeterPrice, Price, Tier

MOST = 10**15  # units; far above any real limit, and sums of a thousand still fit 64 bits
TIERED = ("graduated", "volume")
FLAT = ("per_unit", "package")
_EXAMPLE = '[{up_to: 1000, amount: "0 USD"}, {amount: "0.01 USD"}]'


def _make_tier(amount: Money, up_to: int | None = None, per: int = 1, flat: Money | None = None) -> Tier:
    return Tier(up_to, amount, per, flat)


def _make_meter_price(
    meter: str,
    mode: str = "per_unit",
    included: int | None = None,
    per: int | None = None,
    amount: Money | None = None,
    tiers: Sequence[Tier] | None = None,
    dear: bool = False,
) -> MeterPrice:
    if mode in TIERED:
        for key, value in (("included", included), ("per", per), ("amount", amount)):
            if value is not None:
                raise ValueError(f'"{key}" goes with mode: per_unit, and this is {mode}; write it in the tiers')
        return MeterPrice(meter, 0, 1, _nothing(tiers), mode, _in_order(mode, tiers), dear)
    if tiers is not None:
        raise ValueError(f'"tiers" says nothing with mode: {mode}; write mode: graduated or volume, or remove tiers')
    if amount is None:
        raise ValueError(f'"amount" is missing; write {MONEY.words}')
    if mode == "package" and included:
        raise ValueError(
            "mode: package includes nothing: Stripe counts packages from the first unit; "
            "write mode: per_unit, or remove included"
        )
    return MeterPrice(meter, included or 0, per or 1, amount, mode, dear=dear)


def _nothing(tiers: Sequence[Tier] | None) -> Money:
    return Money(Fraction(0), tiers[0].amount.currency if tiers else FREE.currency)


def _in_order(mode: str, tiers: Sequence[Tier] | None) -> tuple[Tier, ...]:
    """ValueError unless each tier ends above the one before, and the last has no end."""
    if not tiers:
        raise ValueError(f'"tiers" is missing, which mode: {mode} needs; write some such as {_EXAMPLE}')
    *bounded, last = tiers
    if last.up_to is not None:
        raise ValueError(f"what comes after {last.up_to:,} has no price; write a last tier without up_to")
    reached = 0
    for number, tier in enumerate(bounded, 1):
        if tier.up_to is None:
            raise ValueError(f"tier {number} has no end, and more tiers follow it; write its up_to")
        if tier.up_to <= reached:
            raise ValueError(
                f"tier {number} ends at {tier.up_to:,}, the one before it at {reached:,}; write tiers in rising order"
            )
        reached = tier.up_to
    return tuple(tiers)


def _split_meter_price(price: MeterPrice) -> Mapping[str, Any]:
    if price.tiers:
        return {"mode": price.mode, "tiers": price.tiers, "dear": price.dear}
    return {
        "mode": price.mode,
        "included": price.included,
        "per": price.per,
        "amount": price.amount,
        "dear": price.dear,
    }


def _make_prices(meters: Mapping[str, MeterPrice]) -> tuple[MeterPrice, ...]:
    return tuple(meters.values())


def _unmake_prices(prices: Sequence[MeterPrice]) -> dict[str, MeterPrice]:
    return {price.meter: price for price in prices}


TIER = Table(
    "tier",
    "A step of a price.",
    _make_tier,
    (
        Field("up_to", integer(1, MOST), "The last unit of the step.", absent="all the rest"),
        Field("amount", MONEY, "The price of `per` of its units.", required=True),
        Field("per", integer(1, MOST), "A unit costs `amount` divided by this, exactly."),
        Field("flat", MONEY, "What reaching the step costs, once; the first step is reached by 0.", absent="nothing"),
    ),
    of=Tier,
)
METER_PRICE = Table(
    "meter_price",
    "What a meter costs the tenant.",
    _make_meter_price,
    (
        Field(
            "mode",
            choice(*FLAT, *TIERED),
            "`per_unit`: each unit beyond what is included costs `amount` / `per`. `package`: each started `per` costs "
            "`amount`. `graduated`: each unit costs what its tier says. `volume`: all units cost what the tier of the "
            "last one says.",
        ),
        Field("included", integer(0, MOST), "Free in each month, with `per_unit`.", absent="`0`"),
        Field("per", integer(1, MOST), "How many units `amount` is for.", absent="`1`"),
        Field("amount", MONEY, "The price of `per` units.", absent="for tiers alone"),
        Field(
            "tiers",
            ListOf(Record(TIER), f"tiers such as {_EXAMPLE}", least=1, most=100),
            "The steps of `graduated` and `volume`, in rising order; the last has no `up_to`.",
            absent="none",
        ),
        Field(
            "dear",
            BOOLEAN,
            "A unit is meant to cost more than one of its kind may: 0.02 USD for a token or character, 0.0001 for a "
            "byte, 0.01 for a millisecond, 10 for a second of a connection; a call 1,000.",
            default=False,
        ),
    ),
    _split_meter_price,
    MeterPrice,
)
PRICE = Table(
    "price",
    "What a tenant pays for a calendar month.",
    Price,
    (
        Field("base", MONEY, "The monthly fee.", default=FREE, absent="nothing"),
        Field(
            "meters",
            MapOf(
                METER_PRICE,
                name("a meter's name"),
                "meters, each {included, per, amount}",
                make=_make_prices,
                naming="meter",
                unmake=_unmake_prices,
            ),
            "Prices of meters by name.",
        ),
    ),
)
PRICE_TABLES = (PRICE, METER_PRICE, TIER)
