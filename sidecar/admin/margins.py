"""What operators are told about margins, as dicts that JSON can hold. Money is integer micro-units of ``currency``;
what is smaller than that, the cost of one request, is an exact decimal with its currency."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from fractions import Fraction
from heapq import heappush, heappushpop
from typing import Any

from sidecar.admin.accounts import TenantAccount
from sidecar.admin.earning import SUCCESSFUL
from sidecar.admin.shapes import time_text
from sidecar.admin.spans import Span
from sidecar.core.clock import NS_PER_US
from sidecar.core.money import MICROS, format_amount
from sidecar.core.policy import Snapshot
from sidecar.core.ports import Ledger, UsageQuery
from sidecar.metering import Account, baseline, currency_of, format_buffer, price_floor

VIEWS = ("tenant", "plan", "route", "month")
MAX_BELOW = 100  # tenants that are listed below the floor, those that lose most; the others are counted
_RATES = ("per_ms", "per_gib_in", "per_gib_out", "per_call", "per_gib_s")
_BY = ("status", "sandbox")


def currency(snapshot: Snapshot) -> str:
    """The one currency of costs and prices; the configuration was checked to have no two."""
    costs = snapshot.costs
    if costs.external_header or any(getattr(costs, rate) for rate in _RATES):
        return costs.currency
    prices = (plan.price for plan in snapshot.plans.values())
    return next((currency_of(price) for price in prices if price is not None), costs.currency)


class Floor:
    """The price floor over all tenants in ``span``, and which of them are below it."""

    def __init__(self, whole: Account, span: Span, buffer: Fraction, currency: str) -> None:
        self._whole = whole
        self._span = span
        self._buffer = buffer
        self._currency = currency
        self._base = baseline(whole.cost, whole.successful)
        self._worst: list[tuple[int, str, str, Account]] = []  # a heap: what lost least is on top
        self.floor = price_floor(self._base, buffer)
        self.below = 0

    def look(self, account: TenantAccount) -> bool:
        """Whether the tenant is below the floor; it is counted and, if it is among the worst, listed."""
        total = account.total
        if not total.below(self.floor):
            return False
        self.below += 1
        entry = (-total.margin, account.tenant, account.plan, total)
        if len(self._worst) < MAX_BELOW:
            heappush(self._worst, entry)
        else:
            heappushpop(self._worst, entry)
        return True

    def document(self) -> dict[str, Any]:
        """How the floor came about, and who is below it, those that lose most first."""
        return {
            "baseline": {
                **self._span.texts(),
                "cost": self._whole.cost,
                "successful": self._whole.successful,
                "per_request": self._amount(self._base),
                "buffer": format_buffer(self._buffer),
                "floor": self._amount(self.floor),
            },
            "below_floor": {
                "count": self.below,
                "tenants": [
                    {"tenant": tenant, "plan": plan} | account_of(total) | self.per_request(total)
                    for _, tenant, plan, total in sorted(self._worst, key=lambda entry: (-entry[0], entry[1]))
                ],
            },
        }

    def per_request(self, total: Account) -> dict[str, Any]:
        """``revenue_per_request``, None without a successful one."""
        return {"revenue_per_request": self._amount(baseline(total.revenue, total.successful))}

    def _amount(self, micros: Fraction | None) -> str | None:
        return None if micros is None else f"{format_amount(micros / MICROS)} {self._currency}"


async def whole_account(ledger: Ledger, span: Span) -> Account:
    """Cost and requests of all tenants together; no revenue."""
    whole = Account()
    # Seven status classes, live and test keys: one short page.
    for row in await ledger.usage_rows(UsageQuery(_BY, *span, sandbox=None, limit=100)):
        status, sandbox = row.group
        if sandbox:
            whole.sandbox_cost += row.totals.cost
            continue
        whole.cost += row.totals.cost
        whole.requests += row.totals.requests
        whole.successful += row.totals.requests if status in SUCCESSFUL else 0
    return whole


async def summed(accounts: AsyncGenerator[TenantAccount], by: str, floor: Floor) -> dict[str, Any]:
    """``rows`` by plan, route or month, and ``totals`` of them. As many rows as there ever were such names in use."""
    rows: dict[str, Account] = {}
    totals = Account()
    async for account in accounts:
        floor.look(account)
        for (month, route), cell in account.cells.items():
            name = {"plan": account.plan, "route": route, "month": month_text(month)}[by]
            rows.setdefault(name, Account()).add(cell)
            totals.add(cell)
    shown = [{by: name} | account_of(rows[name]) for name in sorted(rows)]
    return {"totals": account_of(totals), "rows": shown, "next": None}


async def paged(
    accounts: AsyncGenerator[TenantAccount], limit: int, floor: Floor, *, spans: bool
) -> tuple[dict[str, Any], bool]:
    """``rows`` of at most ``limit`` tenants with ``totals`` of these, and whether there are more; ``spans``: each with
    the time that it is of."""
    rows: list[dict[str, Any]] = []
    totals = Account()
    async with aclosing(accounts):
        async for account in accounts:
            if len(rows) == limit:
                return {"totals": account_of(totals), "rows": rows}, True
            total = account.total
            totals.add(total)
            below = {"below_floor": floor.look(account)}
            named = {"tenant": account.tenant, "plan": account.plan}
            if spans:
                named |= account.span.texts()
            rows.append(named | account_of(total) | floor.per_request(total) | below)
    return {"totals": account_of(totals), "rows": rows}, False


def account_of(account: Account) -> dict[str, Any]:
    """One account; ``margin_rate`` is a percentage such as ``"62.5 %"``, None without revenue."""
    rate = account.rate
    return {
        "revenue": account.revenue,
        "cost": account.cost,
        "margin": account.margin,
        "margin_rate": None if rate is None else f"{format_amount(Fraction(round(rate * 10_000), 100))} %",
        "requests": account.requests,
        "successful": account.successful,
        "sandbox_cost": account.sandbox_cost,
        "credits": account.credits,
        "unpaid": account.unpaid,
    }


def month_text(month_us: int) -> str:
    """``2026-11``."""
    return time_text(month_us * NS_PER_US)[:7]
