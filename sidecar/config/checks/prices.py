"""A price off by a factor of a million: per token where per million of them was meant (BerriAI/litellm#20615).

Any unit may cost MOST_PER_UNIT (1,000 US dollars). Units that come by the thousand in a call may cost less each; what
they are follows from what the meter counts and, of a value in a reply, from its name. Who means it
writes ``dear: true``.

========================================  ============  ==============================================================
a token, a character                      0.02 USD      the dearest models ask 0.0006, the cheapest 0.05 for a million
a byte                                    0.0001 USD    100 USD a megabyte; clouds ask 0.09 for a gigabyte
a millisecond, a second of a connection   0.01, 10 USD  36,000 USD an hour
========================================  ============  ==============================================================

And no call may cost more than one unit may: by the weight of its route, and by what it is expected to use (estimates).
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from sidecar.config.reading import Reading, quoted
from sidecar.core.money import format_amount
from sidecar.core.policy import Meter, MeterPrice, Plan, Snapshot, Tier
from sidecar.core.price import overage_of

MOST_PER_UNIT = 1_000  # for one unit of a meter
WEAK_FACTOR = 10_000
_WEAK = frozenset("ARS CLP COP HUF IDR INR ISK JPY KES KRW KZT NGN PHP PKR RUB THB TRY TWD UYU VND".split())
_TOKEN, _BYTE, _MS = Fraction(2, 100), Fraction(1, 10_000), Fraction(1, 100)
_COUNTED = {"bytes_in": _BYTE, "bytes_out": _BYTE, "upstream_ms": _MS, "connection_s": Fraction(10)}
_WORDS = {
    **dict.fromkeys(("token", "tokens", "char", "chars", "character", "characters"), _TOKEN),
    **dict.fromkeys(("byte", "bytes"), _BYTE),
    **dict.fromkeys(("ms", "millis", "millisecond", "milliseconds"), _MS),
}
_WORD = re.compile(r"[a-z]+")


def most_for(meter: Meter | None) -> Fraction:
    """What a unit of the meter may cost, in US dollars."""
    if meter is None:
        return Fraction(MOST_PER_UNIT)
    bounds = [_COUNTED.get(meter.count, Fraction(MOST_PER_UNIT))]
    if meter.count == "reply" and meter.extract is not None:
        steps = [step for step in meter.extract.path if isinstance(step, str)]
        named = [meter.name, meter.extract.name, *steps[-1:]]
        words = [word for text in named for word in _WORD.findall(_apart(text))]
        bounds += [_WORDS[word] for word in words if word in _WORDS]
    return min(bounds)


def factor(currency: str) -> int:
    return WEAK_FACTOR if currency in _WEAK else 1


def shown(amount: Fraction, currency: str) -> str:
    whole, _, places = format_amount(amount).partition(".")
    return f"{int(whole):,}.{places} {currency}"


def check(snapshot: Snapshot, reading: Reading) -> None:
    """Of every meter's price that is not ``dear``; the bound of any unit is checked elsewhere."""
    for plan in snapshot.plans.values():
        for price in plan.price.meters if plan.price is not None else ():
            meter = snapshot.meters.get(price.meter)
            for step in price.tiers or (price,):
                each = step.amount.amount / step.per
                if not price.dear and each <= MOST_PER_UNIT * factor(step.amount.currency):
                    _check_unit(price, step, each, most_for(meter), reading)
            if not price.dear and meter is not None:
                _check_call(snapshot, plan, price, meter, reading)


def _check_unit(price: MeterPrice, step: MeterPrice | Tier, each: Fraction, most: Fraction, reading: Reading) -> None:
    currency = step.amount.currency
    bound = most * factor(currency)
    if each > bound:
        what = f"one of {quoted(price.meter)} would cost {shown(each, currency)}"
        what = f"{what}, a million {shown(each * 10**6, currency)}; write what it is for, such as per: 1_000_000"
        reading.blame(step, "amount", f"{what}, or dear: true for more than {shown(bound, currency)} each")


def _check_call(snapshot: Snapshot, plan: Plan, price: MeterPrice, meter: Meter, reading: Reading) -> None:
    for route, units, why in _typical(snapshot, plan, meter):
        step = price.tiers[-1] if price.tiers else price
        cost = step.amount.amount / step.per * units
        if cost > MOST_PER_UNIT * factor(step.amount.currency) >= step.amount.amount / step.per:
            called = f"one call of the route {quoted(route)} would cost {shown(cost, step.amount.currency)}, by {why}"
            message = f"{called} of {units:,} of {quoted(meter.name)}; write what is meant, or dear: true"
            reading.blame(step, "amount", message)
            return


def _typical(snapshot: Snapshot, plan: Plan, meter: Meter) -> Iterator[tuple[str, int, str]]:
    """What a call of each route is known, or expected, to use of the meter."""
    general = max([quota.estimate or 0 for quota in plan.quotas if quota.meter == meter.name], default=0)
    for route in snapshot.routes:
        if meter.routes is not None and route.name not in meter.routes:
            continue
        if meter.count == "units":
            yield route.name, route.units, "its weight"
        elif meter.count != "requests":
            yield route.name, dict(route.estimates or ()).get(meter.name, general), "the estimate"


def price_lines(snapshot: Snapshot) -> list[tuple[str, str, tuple[str, str, str]]]:
    """Plan, meter, and what 1, 1,000 and 1,000,000 units cost beyond what is included, of plans that
    somebody wrote: so that a person sees it."""
    return [
        (plan.name, price.meter, (_cost(price, 1), _cost(price, 1_000), _cost(price, 1_000_000)))
        for plan in snapshot.plans.values()
        for price in (plan.price.meters if plan.price is not None and plan.origin.line else ())
    ]


def _cost(price: MeterPrice, units: int) -> str:
    amount = overage_of(price, price.included + units) - overage_of(price, 0)
    currency = next((tier.amount.currency for tier in price.tiers if tier.amount.amount), price.amount.currency)
    return shown(amount, currency)


def _apart(name: str) -> str:
    """``totalTokens`` as ``total tokens``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
