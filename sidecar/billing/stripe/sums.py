"""Stripe's own sums of what it took, as integers or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sidecar.billing.pace import Pace
from sidecar.billing.stripe.client import StripeClient
from sidecar.billing.stripe.faults import StripeFault
from sidecar.billing.stripe.listing import listed
from sidecar.billing.stripe.meters import READ_METERS, read_meters
from sidecar.core.clock import NS_PER_S, Clock

MOST_EXACT = 2**53  # Stripe sums in floats: beyond this an integer is not sure to be one
READS_PER_S = 5  # Stripe's limit is 25 per endpoint live, and of all calls together with a test key
REMEMBERED_NS = 600 * NS_PER_S  # a meter that was made anew under its name has another id


class MeterSums:
    """``Sums`` out of the meters' event summaries. Not faster than ``rate`` per second, whoever asks."""

    def __init__(
        self,
        client: StripeClient,
        clock: Clock,
        *,
        rate: int = READS_PER_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._clock = clock
        self._pace = Pace(rate, clock, sleep=sleep)
        self._ids: dict[str, str] = {}  # of active meters, as many as Stripe lists
        self._read_ns: int | None = None
        self._reading = asyncio.Lock()

    async def total(self, event_name: str, customer: str, begin: int, end: int) -> int:
        """Over the Unix minutes [begin, end). StripeFault when it cannot be said."""
        summaries = await self._summaries(event_name, customer, begin * 60, end * 60)
        if len(summaries) > 1:
            raise StripeFault(f"Stripe gives {len(summaries)} sums where one was asked for")
        return sum(_value(summary) for summary in summaries)

    async def hours(self, event_name: str, customer: str, begin: int, end: int) -> dict[int, int]:
        """Unix hour to sum within the hours [begin, end), those of 0 left out. StripeFault when it cannot be said."""
        start_s, end_s = begin * 3600, end * 3600
        found: dict[int, int] = {}
        for summary in await self._summaries(event_name, customer, start_s, end_s, value_grouping_window="hour"):
            at, until = summary.get("start_time"), summary.get("end_time")
            if not isinstance(at, int) or until != at + 3600 or at % 3600 or not start_s <= at < end_s:
                raise StripeFault("Stripe's sums are not those of the hours that were asked for")
            if at // 3600 in found:
                raise StripeFault("Stripe gives two sums of one hour")
            found[at // 3600] = _value(summary)
        return {hour: value for hour, value in found.items() if value}

    async def _summaries(
        self, event_name: str, customer: str, start_s: int, end_s: int, **grouping: str
    ) -> list[dict[str, Any]]:
        if start_s > end_s:
            raise ValueError("a range ends before it begins")
        if start_s == end_s:
            return []
        summaries = self._client.v1.billing.meters.event_summaries
        meter = await self._meter(event_name)

        def fetch(params: Any) -> Awaitable[Any]:
            return summaries.list_async(meter, params)

        asked = {"customer": customer, "start_time": start_s, "end_time": end_s, **grouping}
        return await listed(self._client, fetch, asked, READ_METERS, pace=self._pace)

    async def _meter(self, event_name: str) -> str:
        """The id of the active meter, read anew now and then."""
        async with self._reading:  # one reading for all who wait for it
            now = self._clock.monotonic_ns()
            if event_name not in self._ids or self._read_ns is None or now - self._read_ns >= REMEMBERED_NS:
                meters = await read_meters(self._client, self._pace)
                self._ids = {name: meter.id for name, meter in meters.items() if meter.active}
                self._read_ns = now
        if event_name not in self._ids:
            raise StripeFault(f'Stripe has no active meter with the event name "{event_name}"')
        return self._ids[event_name]


def _value(summary: Mapping[str, Any]) -> int:
    value = summary.get("aggregated_value")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise StripeFault("Stripe's sum is no number")
    if not -MOST_EXACT <= value <= MOST_EXACT:  # NaN too
        raise StripeFault("Stripe's sum is beyond 2^53: it cannot be told to the unit")
    if value != int(value):
        raise StripeFault("Stripe's sum is no integer: somebody sent a part of a unit")
    return int(value)
