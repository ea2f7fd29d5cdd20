"""What commands print: JSON for programs, aligned columns for people."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from sidecar.core.money import format_micros


def out(text: str) -> None:
    """One line on stdout: the answer."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """One line on stderr: what a person should know beside the answer."""
    sys.stderr.write(f"{text}\n")


def out_json(document: dict[str, Any]) -> None:
    """The answer for programs."""
    out(json.dumps(document, ensure_ascii=False, indent=2))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell, two spaces apart; numbers to the right; None is shown as ``-``."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[column]) for row in cells)]) for column, name in enumerate(head)]
    right = [bool(rows) and all(isinstance(row[column], int) for row in rows) for column in range(len(head))]
    for line in [list(head), *cells]:
        padded = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ]
        out("  ".join(padded).rstrip())


def tenants(rows: Sequence[dict[str, Any]]) -> None:
    """A line per tenant."""
    columns = ("name", "plan", "state", "source", "created")
    table([column.upper() for column in columns], [[row[column] for column in columns] for row in rows])


def payment(account: dict[str, Any]) -> str:
    """One line on what follows from payment."""
    parts = [f"payment: {account['access']}", f"subscription {account['status'] or 'none'}"]
    parts += [f"plan {account['plan']}"] if account["plan"] else []
    parts += [f"until {account['until']}"] if account["until"] else []
    return ", ".join([*parts, f"customer {account['customer']}"])


def keys(rows: Sequence[dict[str, Any]]) -> None:
    """A line per key."""
    table(
        ("ID", "NAME", "KIND", "STATUS", "SCOPES", "CREATED", "EXPIRES", "LAST USED"),
        [
            [
                row["id"],
                row["name"],
                "test" if row["test"] else "live",
                row["status"],
                _scopes(row["scopes"]),
                row["created"],
                row["expires"],
                row["last_used"],
            ]
            for row in rows
        ],
    )


def usage(report: dict[str, Any]) -> None:
    """Totals, then the same by route, status class and meter."""
    out(f"{report['tenant']}, from {report['since']} to {report['until']}")
    table(("", *_HEAD), [_totals("all", report, report["currency"])])
    for title, part in (("ROUTE", report["routes"]), ("STATUS", report["statuses"])):
        if part:
            out("")
            table((title, *_HEAD), [_totals(name, part[name], report["currency"]) for name in sorted(part)])
    for title, counts in (("METER", report["meters"]), ("NOT READABLE IN", report["anomalies"])):
        if counts:
            out("")
            table((title, "VALUE" if title == "METER" else "REPLIES"), sorted(counts.items()))
    if report["shadow_refused"]:
        out("")
        table(("IN SHADOW MODE", "WOULD HAVE REFUSED"), sorted(report["shadow_refused"].items()))
    if report["requests"]:
        part = report["latency"]
        shown = ", ".join(f"{name} {_ms(part[f'{name}_ms'])} ms" for name in ("p50", "p90", "p99"))
        out(f"\nlatency: {shown} (within 12.5 %)")
    if report["sandbox"]["requests"]:
        out(f"\ntest keys, beside all this: {report['sandbox']['requests']} requests")
    if report["indeterminate"]:
        calls = report["indeterminate"]
        out(f"\nended unseen, counted as far as was written down: {calls} {'request' if calls == 1 else 'requests'}")
    if "month" in report:
        out(f"\nprice of {report['month']['period']} so far: {report['month']['price']}")
    if "spend" in report:
        _spend(report["spend"])


def _spend(spend: dict[str, Any]) -> None:
    unit, cap, credits = spend["currency"], spend["cap"], spend["credits"]
    out(f"\nmetered use since {spend['since']}: {format_micros(spend['metered'], unit)}")
    if cap is not None:
        what = f"{format_micros(cap['spent'], unit)} of {format_micros(cap['limit'], unit)}"
        out(f"spend cap: {what} since {cap['since']}, anew {cap['until']}, overage {cap['overage']}")
    if credits is not None:
        what = f"{format_micros(credits['burned'], unit)} burned, {format_micros(credits['left'], unit)} left"
        out(f"credits: {what}, {format_micros(credits['uncovered'], unit)} ever uncovered")


def usage_rows(page: dict[str, Any]) -> None:
    """A line per group."""
    out(f"from {page['since']} to {page['until']}")
    head = [*(part.upper() for part in page["by"]), *_HEAD, "P50 MS", "P99 MS"]
    rows = []
    for row in page["rows"]:
        sums = _totals("", row, page["currency"])[1:]
        latency = row["latency"]
        rows.append([*row["group"].values(), *sums, _ms(latency["p50_ms"]), _ms(latency["p99_ms"])])
    table(head, rows)


def margin(page: dict[str, Any]) -> None:
    """A line per tenant, plan, route or month; the price floor; who is below it."""
    currency, by = page["currency"], page["by"]
    own = page["since"] is None
    if own:
        out(f"each tenant's {'running billing period' if page['period'] == 'billing' else 'billing period before it'}")
    else:
        out(f"from {page['since']} to {page['until']}")
    names = (("tenant", "plan", "since", "until") if own else ("tenant", "plan")) if by == "tenant" else (by,)
    head = (*_ACCOUNT, *(_CREDITS if page["totals"]["credits"] or page["totals"]["unpaid"] else ()))
    rows = [[*(row[name] or "(none)" for name in names), *_account(row, head, currency)] for row in page["rows"]]
    whole = "all" if by != "tenant" else "these"
    rows.append([whole, *([""] * (len(names) - 1)), *_account(page["totals"], head, currency)])
    table((*(name.upper() for name in names), *head), rows)
    base, below = page["baseline"], page["below_floor"]
    if base["per_request"] is not None:
        out(f"\na successful request costs {base['per_request']}; with {base['buffer']} on it, charge at least")
        out(f"{base['floor']} for each")
    if below["count"]:
        out(f"\nbelow that: {below['count']} {'tenant' if below['count'] == 1 else 'tenants'}")
        rows = [
            [row["tenant"], row["plan"] or "(none)", row["revenue_per_request"], *_account(row, _ACCOUNT, currency)]
            for row in below["tenants"]
        ]
        table(("TENANT", "PLAN", "PER REQUEST", *_ACCOUNT), rows)


_HEAD = ("REQUESTS", "UNITS", "COST", "BODY IN", "BODY OUT")
_ACCOUNT = ("REVENUE", "COST", "MARGIN", "RATE", "SUCCESSFUL", "COST OF TEST KEYS")
_CREDITS = ("OF IT CREDITS", "USE NOBODY PAID")


def _account(row: dict[str, Any], head: Sequence[str], currency: str) -> list[Any]:
    money = {name: format_micros(row[name], currency) for name in ("revenue", "cost", "margin", "credits", "unpaid")}
    shown = [money["revenue"], money["cost"], money["margin"], row["margin_rate"], row["successful"]]
    shown += [format_micros(row["sandbox_cost"], currency), money["credits"], money["unpaid"]]
    return shown[: len(head)]


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _totals(name: str, totals: dict[str, Any], currency: str) -> list[Any]:
    cost = format_micros(totals["cost"], currency)
    return [name, totals["requests"], totals["units"], cost, totals["bytes_in"], totals["bytes_out"]]


def _scopes(scopes: list[str] | None) -> str:
    return "all" if scopes is None else ",".join(scopes) or "none"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else str(value)
