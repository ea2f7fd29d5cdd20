"""Money: prices and costs that are off by a factor of a thousand or a million, and mixed currencies (field bug 16).

Thresholds are in US dollars and the like; where a unit of the currency is worth a cent or less they are WEAK_FACTOR
times as high.
"""

from collections.abc import Iterator
from fractions import Fraction

from sidecar.config.checks import prices
from sidecar.config.checks.prices import MOST_PER_UNIT, factor, shown
from sidecar.config.costs import RATES
from sidecar.config.reading import Reading, quoted
from sidecar.core.money import Money
from sidecar.core.policy import Costs, Meter, MeterPrice, Plan, Price, Snapshot, Tier

MOST_BASE = 1_000_000  # for one month
MOST_CAP = 10_000_000  # for a period's metered use: more caps nothing
LEAST_PER_BILLION = Fraction(1, 100)  # for 10**9 units of a meter: less is a price nobody ever sees
# What a second of upstream time, one GiB, one call may cost: the factor is what is counted, the number its bound.
MOST_COST = {
    "per_ms": (1000, 1_000, "one second of upstream time"),
    "per_gib_in": (1, 1_000, "one GiB in"),
    "per_gib_out": (1, 1_000, "one GiB out"),
    "per_call": (1, 1_000, "one call"),
    "per_gib_s": (1, 1_000, "one GiB of memory for one second"),
}
STRIPE_DECIMALS = 12


def check(snapshot: Snapshot, reading: Reading) -> None:
    first: tuple[str, str] | None = None
    for value, attribute, money in _amounts(snapshot):
        if not money.amount:
            continue
        if first is None:
            first = money.currency, reading.where(value, attribute)
        elif money.currency != first[0]:
            message = f"{money} mixes currencies, {first[1]} is in {first[0]}; write all amounts in one currency"
            reading.blame(value, attribute, message)
    for plan in snapshot.plans.values():
        if plan.price is None:
            continue
        base = plan.price.base
        if base.amount > MOST_BASE * factor(base.currency):
            message = f"a month would cost {shown(base.amount, base.currency)}"
            reading.blame(plan.price, "base", f"{message}; write what is meant, {_bound(MOST_BASE, base)}")
        for price in plan.price.meters:
            for step in price.tiers or (price,):
                _check_step(price.meter, step, reading)
                if price.meter in snapshot.meters and snapshot.meters[price.meter].stripe_event is not None:
                    _check_decimals(step, price.mode == "package", reading)
        _check_budgets(snapshot, plan, plan.price, reading)
    prices.check(snapshot, reading)
    for plan in snapshot.plans.values():
        if plan.price is None or not plan.price.meters:
            _check_unpriced(plan, reading)
    for attribute, (counted, most, words) in MOST_COST.items():
        rate = getattr(snapshot.costs, attribute) * counted
        if rate > most * factor(snapshot.costs.currency):
            money = Money(rate, snapshot.costs.currency)
            message = f"{words} would cost {shown(rate, money.currency)}; write what is meant, {_bound(most, money)}"
            reading.blame(snapshot.costs, attribute, message)
    _check_reported(snapshot.costs, first, reading)
    _check_events(snapshot, reading)


def _check_unpriced(plan: Plan, reading: Reading) -> None:
    """Budgets in money need something that costs money."""
    why = f"counts nothing: the plan {quoted(plan.name)} has no price for any meter; write one under price.meters"
    if plan.spend_cap is not None:
        reading.blame(plan.spend_cap, "", why)
    if plan.prepaid:
        reading.blame(plan, "prepaid", why)


def _check_budgets(snapshot: Snapshot, plan: Plan, price: Price, reading: Reading) -> None:
    cap = plan.spend_cap
    if cap is not None:
        if not cap.limit.amount and cap.overage == "block":
            message = "a spend cap of nothing refuses every call that costs something; write a larger one"
            reading.blame(cap, "limit", message)
        if cap.limit.amount > MOST_CAP * factor(cap.limit.currency):
            amount = shown(cap.limit.amount, cap.limit.currency)
            reading.blame(cap, "limit", f"{amount} is no cap; write what is meant, {_bound(MOST_CAP, cap.limit)}")
    for part in price.meters if plan.prepaid else ():
        if part.mode == "volume":
            message = (
                f"with prepaid a price may not fall again, and with mode: volume that of {quoted(part.meter)} falls "
                "when a cheaper tier is reached; write mode: graduated"
            )
            reading.blame(part, "", message)
        meter = snapshot.meters.get(part.meter)
        if meter is not None and meter.stripe_event is not None:
            message = (
                f"{quoted(part.meter)} would be paid twice: from credits and, as the event "
                f"{quoted(meter.stripe_event)}, at Stripe; remove prepaid or price a meter without stripe_event"
            )
            reading.blame(plan, "prepaid", message)


def _check_events(snapshot: Snapshot, reading: Reading) -> None:
    first: dict[str, Meter] = {}
    for meter in snapshot.meters.values():
        if meter.stripe_event is None:
            continue
        other = first.setdefault(meter.stripe_event, meter)
        if other is not meter:
            message = (
                f"{quoted(meter.stripe_event)} is the event of {quoted(other.name)} too: both would be billed as one"
            )
            reading.blame(meter, "stripe_event", f"{message}; write another event name")


def _check_reported(costs: Costs, first: tuple[str, str] | None, reading: Reading) -> None:
    """What the upstream reports needs its rate, the rate its report, and both the currency of everything else."""
    if costs.memory_header and not costs.per_gib_s:
        message = 'is read for nothing without per_gib_s; write that too, such as "0.0000166667 USD", or remove this'
        reading.blame(costs, "memory_header", message)
    if costs.per_gib_s and not costs.memory_header:
        message = "charges for memory that no reply reports; write memory_header too, such as X-Memory-Bytes"
        reading.blame(costs, "per_gib_s", message)
    if costs.external_header and first is not None and costs.currency != first[0]:
        message = f"would be taken as {costs.currency}, but {first[1]} is in {first[0]}"
        reading.blame(costs, "external_header", f'{message}; write an amount too, such as per_call: "0 {first[0]}"')


def _check_step(meter: str, step: MeterPrice | Tier, reading: Reading) -> None:
    each = step.amount.amount / step.per
    currency = step.amount.currency
    if each > MOST_PER_UNIT * factor(currency):
        message = f"one of {quoted(meter)} would cost {shown(each, currency)}"
        reading.blame(step, "amount", f"{message}; write what is meant, {_bound(MOST_PER_UNIT, step.amount)}")
    elif 0 < each * 10**9 < LEAST_PER_BILLION:
        message = f"a billion of {quoted(meter)} would cost {shown(each * 10**9, currency)} in all"
        reading.blame(step, "amount", f"{message}; write a larger amount or a smaller per")
    flat = step.flat if isinstance(step, Tier) else None
    if flat is not None and flat.amount > MOST_BASE * factor(flat.currency):
        message = f"reaching this step would cost {shown(flat.amount, flat.currency)}"
        reading.blame(step, "flat", f"{message}; write what is meant, {_bound(MOST_BASE, flat)}")


def _check_decimals(step: MeterPrice | Tier, package: bool, reading: Reading) -> None:
    """Stripe takes prices of a unit with STRIPE_DECIMALS of the smallest unit of the currency, and whole fees."""
    per = 1 if package else step.per
    if (step.amount.minor * 10**STRIPE_DECIMALS / per).denominator != 1:
        message = f"one unit would cost {step.amount} / {per:,}, which Stripe cannot hold in {STRIPE_DECIMALS} decimals"
        reading.blame(step, "amount", f"{message} of a cent; write an amount or a per that divides evenly")
    if isinstance(step, Tier) and step.flat is not None and step.flat.minor.denominator != 1:
        reading.blame(
            step, "flat", f"{step.flat} is no whole number of the currency's smallest unit; write one that is"
        )


def _amounts(snapshot: Snapshot) -> Iterator[tuple[object, str, Money]]:
    for plan in snapshot.plans.values():
        if plan.spend_cap is not None:
            yield plan.spend_cap, "limit", plan.spend_cap.limit
        if plan.price is not None:
            yield plan.price, "base", plan.price.base
            for price in plan.price.meters:
                if not price.tiers:
                    yield price, "amount", price.amount
                for tier in price.tiers:
                    yield tier, "amount", tier.amount
                    if tier.flat is not None:
                        yield tier, "flat", tier.flat
    for attribute in RATES:
        yield snapshot.costs, attribute, Money(getattr(snapshot.costs, attribute), snapshot.costs.currency)


def _bound(most: int, money: Money) -> str:
    return f"at most {most * factor(money.currency):,} {money.currency}"
