"""What Stripe's invoices ask for: metered quantities, before and after they are final."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from sidecar.billing.pace import Pace
from sidecar.billing.stripe.client import StripeClient
from sidecar.billing.stripe.faults import StripeFault
from sidecar.billing.stripe.listing import listed
from sidecar.billing.stripe.meters import read_meters
from sidecar.core.accounts import Account
from sidecar.core.billing import Bill, Period
from sidecar.core.clock import NS_PER_S, Clock

READ_INVOICES = "Invoices: Read"
READ_PRICES = "Prices: Read"
REMEMBERED_NS = 600 * NS_PER_S


class InvoiceLines:
    """``Bills`` out of Stripe's invoices."""

    def __init__(self, client: StripeClient, pace: Pace, clock: Clock) -> None:
        self._client = client
        self._pace = pace
        self._clock = clock
        self._events: dict[str, str] = {}  # price to event name; as many as Stripe lists
        self._read_ns: int | None = None
        self._reading = asyncio.Lock()

    async def bill(self, account: Account, period: Period) -> Bill | None:
        """The invoice over this period of the account's subscription; None: there is none yet. StripeFault."""
        if account.subscription is None:
            return None
        invoices = self._client.v1.invoices
        # An invoice for a period is made when it ends, or within the hours that Stripe takes for it.
        created = {"gte": period.end_s - 60, "lte": period.end_s + 4 * 86_400}
        asked = {"customer": account.customer, "subscription": account.subscription, "created": created}
        for invoice in await listed(
            self._client, invoices.list_async, asked, READ_INVOICES, pace=self._pace, most=1000
        ):
            if invoice.get("status") in ("void", "uncollectible") and not invoice.get("number"):
                continue
            lines = await self._lines(str(invoice.get("id")))
            quantities = await self._quantities(lines, period)
            if quantities:
                number = invoice.get("number")
                final = invoice.get("status") != "draft"
                return Bill(str(invoice["id"]), final, quantities, number if isinstance(number, str) else None)
        return None

    async def _lines(self, invoice: str) -> list[dict[str, Any]]:
        lines = self._client.v1.invoices.line_items

        def fetch(params: Any) -> Any:
            return lines.list_async(invoice, params)

        return await listed(self._client, fetch, {}, READ_INVOICES, pace=self._pace)

    async def _quantities(self, lines: list[dict[str, Any]], period: Period) -> dict[str, int]:
        """Event name to quantity: a graduated price has a line for each of its tiers."""
        found: dict[str, int] = {}
        for line in lines:
            span = _map(line.get("period"))
            price = _map(_map(line.get("pricing")).get("price_details")).get("price")
            if (span.get("start"), span.get("end")) != (period.start_s, period.end_s) or not isinstance(price, str):
                continue
            event_name = await self._event(price)
            if event_name is not None:
                found[event_name] = found.get(event_name, 0) + _quantity(line)
        return found

    async def _event(self, price: str) -> str | None:
        async with self._reading:  # one reading for all who wait for it
            now_ns = self._clock.monotonic_ns()
            if self._read_ns is None or now_ns - self._read_ns >= REMEMBERED_NS:
                names = {meter.id: name for name, meter in (await read_meters(self._client, self._pace)).items()}
                metered: Any = {"recurring": {"usage_type": "metered"}}
                prices = await listed(
                    self._client, self._client.v1.prices.list_async, metered, READ_PRICES, pace=self._pace
                )
                meters = {str(one.get("id")): _map(one.get("recurring")).get("meter") for one in prices}
                self._events = {price_id: names[meter] for price_id, meter in meters.items() if meter in names}
                self._read_ns = now_ns
        return self._events.get(price)


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _quantity(line: Mapping[str, Any]) -> int:
    """Exact: ``quantity`` is cut to an integer."""
    written = line.get("quantity_decimal", line.get("quantity"))
    try:
        value = Decimal(str(written))
    except InvalidOperation:
        raise StripeFault("an invoice line has no quantity") from None
    if not value.is_finite() or value != value.to_integral_value():
        raise StripeFault("an invoice line has a part of a unit")
    return int(value)
