"""What Stripe's documentation leaves open about meters, tried in a sandbox.

Everything it makes is new: customers and meters named ``sidecar_selftest_...``, which are deleted and deactivated at
the end. It never runs with a live key. Each finding is a line for a person; the three that reporting relies on say
whether it may.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sidecar.billing.pace import Pace
from sidecar.billing.stripe.client import StripeClient
from sidecar.billing.stripe.faults import StripeFault, ask
from sidecar.billing.stripe.sink import CUSTOMER_KEY, VALUE_KEY, WRITE_EVENTS
from sidecar.billing.stripe.sums import MeterSums
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError

PATIENCE_S = 300  # for a sum to show an event
EVERY_S = 5
RATE = 5  # calls per second
_WRITE_METERS, _WRITE_CUSTOMERS = "Meters: Write", "Customers: Write"


@dataclass(frozen=True, slots=True)
class Finding:
    """``good``: whether reporting may rely on it; None: it is only good to know."""

    question: str
    answer: str
    good: bool | None = None


class SelfTest:
    """One run. ``say`` gets each finding as it is made."""

    def __init__(
        self,
        client: StripeClient,
        clock: Clock,
        say: Callable[[Finding], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if client.live:
            raise SidecarError("the self-test makes meters and events: it runs with a key of a sandbox only")
        self._client = client
        self._clock = clock
        self._say = say
        self._sleep = sleep
        self._pace = Pace(RATE, clock, sleep=sleep)
        self._sums = MeterSums(client, clock, sleep=sleep)
        self._name = f"sidecar_selftest_{secrets.token_hex(4)}"
        self._made: list[Callable[[], Awaitable[Any]]] = []  # what takes away what was made, the last first

    async def run(self) -> bool:
        """Whether reporting may rely on what was found. SidecarError when something could not be tried at all."""
        findings: list[Finding] = []
        try:
            added, hourly = await self._meter("sum", None), await self._meter("set", "hour")
            first, second = await self._customer("a"), await self._customer("b")
            for trial in (
                partial(self._lag, added, first),
                partial(self._duplicates, added, hourly, first, second),
                partial(self._edges, added, first),
                partial(self._values, added, second),
                partial(self._cancelled, added, first),
                partial(self._totals, hourly, first),
            ):
                finding = await trial()
                findings.append(finding)
                self._say(finding)
        finally:
            for undo in reversed(self._made):
                await undo()
        return all(finding.good is not False for finding in findings)

    async def _lag(self, meter: str, customer: str) -> Finding:
        begun_ns = self._clock.monotonic_ns()
        minute = self._minute(10)
        await self._send(meter, customer, minute, 7, "lag")
        seen = await self._wait(meter, customer, minute, 7)
        took = (self._clock.monotonic_ns() - begun_ns) // NS_PER_S
        question = "how late is an event in the sums?"
        if seen != 7:
            return Finding(question, f"it is not there after {PATIENCE_S} s: {seen}", good=False)
        return Finding(question, f"about {took} s; reporting needs less than 24 hours", good=True)

    async def _duplicates(self, meter: str, other: str, customer: str, another: str) -> Finding:
        minute = self._minute(20)
        question = "is a second event with one identifier refused?"
        if await self._send(meter, customer, minute, 1, "twice"):
            return Finding(question, "the first one was refused", good=False)
        refused = await self._send(meter, customer, minute, 1, "twice")
        elsewhere = [
            name
            for name, who, where in (("another customer", another, meter), ("another meter", customer, other))
            if not await self._send(where, who, minute, 1, "twice")
        ]
        scope = f"; taken again for {' and '.join(elsewhere)}" if elsewhere else "; for every customer and meter"
        return Finding(question, (f"yes ({refused})" if refused else "no") + scope, good=bool(refused))

    async def _edges(self, meter: str, customer: str) -> Finding:
        minute = self._minute(30)
        await self._send(meter, customer, minute, 5, "edge", second=0)
        await self._wait(meter, customer, minute, 5)
        inside = await self._sums.total(meter, customer, minute, minute + 1)
        before = await self._sums.total(meter, customer, minute - 1, minute)
        which = {(5, 0): "the minute that it begins", (0, 5): "the minute that it ends"}.get((inside, before), "both")
        return Finding("which minute has an event on its edge?", f"{which}; ours are never on one")

    async def _values(self, meter: str, customer: str) -> Finding:
        zero = await self._send(meter, customer, self._minute(40), 0, "zero")
        negative = await self._send(meter, customer, self._minute(41), -1, "negative")
        answers = [f"{name} is {'refused' if said else 'taken'}" for name, said in (("0", zero), ("-1", negative))]
        return Finding("are other values than positive ones taken?", "; ".join(answers))

    async def _cancelled(self, meter: str, customer: str) -> Finding:
        minute = self._minute(50)
        await self._send(meter, customer, minute, 9, "cancelled")
        params: Any = {"type": "cancel", "event_name": meter, "cancel": {"identifier": self._identifier("cancelled")}}
        await self._pace.wait()
        await ask(self._client, self._client.v1.billing.meter_event_adjustments.create_async(params), WRITE_EVENTS)
        refused = await self._send(meter, customer, minute, 9, "cancelled")
        what = f"is refused ({refused})" if refused else "is taken again"
        return Finding("may the identifier of a cancelled event be used again?", f"an event with it {what}")

    async def _totals(self, meter: str, customer: str) -> Finding:
        hour = self._minute(0) // 60 * 60 - 60
        question = "does the newest event of an hour take the place of the others?"
        await self._send(meter, customer, hour + 30, 11, "v1")
        await self._wait(meter, customer, hour, 11, minutes=60)
        await self._send(meter, customer, hour + 30, 4, "v2")
        seen = await self._wait(meter, customer, hour, 4, minutes=60)
        return Finding(question, "yes" if seen == 4 else f"no: the hour shows {seen}", good=seen == 4)

    async def _meter(self, what: str, window: str | None) -> str:
        name = f"{self._name}_{what}"
        params: Any = {
            "display_name": name,
            "event_name": name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": CUSTOMER_KEY},
            "value_settings": {"event_payload_key": VALUE_KEY},
        }
        if window is not None:
            params["event_time_window"] = window
        meters = self._client.v1.billing.meters
        await self._pace.wait()
        made = await ask(self._client, meters.create_async(params), _WRITE_METERS)
        self._made.append(lambda: ask(self._client, meters.deactivate_async(made.id), _WRITE_METERS))
        return name

    async def _customer(self, what: str) -> str:
        customers = self._client.v1.customers
        await self._pace.wait()
        made = await ask(self._client, customers.create_async({"name": f"{self._name}_{what}"}), _WRITE_CUSTOMERS)
        self._made.append(lambda: ask(self._client, customers.delete_async(made.id), _WRITE_CUSTOMERS))
        return str(made.id)

    async def _send(self, meter: str, customer: str, minute: int, value: int, what: str, *, second: int = 30) -> str:
        """Empty: taken; else what Stripe says."""
        params: Any = {
            "event_name": meter,
            "payload": {CUSTOMER_KEY: customer, VALUE_KEY: str(value)},
            "identifier": self._identifier(what),
            "timestamp": minute * 60 + second,
        }
        await self._pace.wait()
        try:
            await ask(self._client, self._client.v1.billing.meter_events.create_async(params), WRITE_EVENTS)
        except StripeFault as fault:
            if fault.stop or fault.http not in (400, 409):
                raise
            return str(fault)
        return ""

    async def _wait(self, meter: str, customer: str, minute: int, value: int, *, minutes: int = 1) -> int:
        """What the sum shows once it shows ``value``, or when patience is over."""
        end_ns = self._clock.monotonic_ns() + PATIENCE_S * NS_PER_S
        while True:
            seen = await self._sums.total(meter, customer, minute, minute + minutes)
            if seen == value or self._clock.monotonic_ns() >= end_ns:
                return seen
            await self._sleep(EVERY_S)

    def _identifier(self, what: str) -> str:
        return f"{self._name}:{what}"

    def _minute(self, ago: int) -> int:
        return self._clock.wall_ns() // NS_PER_S // 60 - ago
