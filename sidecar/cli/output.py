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
    head = ("REQUESTS", "UNITS", "COST", "BODY IN", "BODY OUT")
    table(("", *head), [_totals("all", report, report["currency"])])
    for title, part in (("ROUTE", report["routes"]), ("STATUS", report["statuses"])):
        if part:
            out("")
            table((title, *head), [_totals(name, part[name], report["currency"]) for name in sorted(part)])
    if report["meters"]:
        out("")
        table(("METER", "VALUE"), sorted(report["meters"].items()))
    if report["sandbox"]["requests"]:
        out(f"\ntest keys, beside all this: {report['sandbox']['requests']} requests")
    if report["indeterminate"]:
        out(f"\nunknown end (never billed): {report['indeterminate']} requests")
    if "month" in report:
        out(f"\nprice of {report['month']['period']} so far: {report['month']['price']}")


def _totals(name: str, totals: dict[str, Any], currency: str) -> list[Any]:
    cost = format_micros(totals["cost"], currency)
    return [name, totals["requests"], totals["units"], cost, totals["bytes_in"], totals["bytes_out"]]


def _scopes(scopes: list[str] | None) -> str:
    return "all" if scopes is None else ",".join(scopes) or "none"


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)
