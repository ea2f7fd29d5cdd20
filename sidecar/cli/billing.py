"""The commands on what was billed: the report, and rows that wait for a person."""

import argparse
from datetime import UTC, datetime
from typing import Any

from sidecar.cli import output
from sidecar.cli.reach import perform
from sidecar.cli.statements import statement


def reconcile(options: argparse.Namespace) -> int:
    """Prints the report, or a saved one as a statement to sign: exit code 1 when anything differs."""
    if options.statement is not None:
        text, agrees = statement(options.statement)
        output.out(text)
        return 0 if agrees else 1
    arguments = {"period": options.period, "after": options.after, "limit": options.limit}
    if options.tenant is not None:
        arguments["tenant"] = options.tenant
    report = perform(options, "desk.reconcile", arguments)
    differences = [difference for line in report["lines"] for difference in line["differences"]]
    if options.json:
        output.out_json(report)
    else:
        _show_report(report, differences)
    return 1 if differences else 0


def outbox_list(options: argparse.Namespace) -> int:
    """Lists rows."""
    given = {name: getattr(options, name) for name in ("state", "tenant", "after", "limit")}
    page = perform(options, "desk.outbox_list", {name: value for name, value in given.items() if value is not None})
    if options.json:
        output.out_json(page)
        return 0
    rows = [
        [row["id"], row["tenant"], row["meter"], row["value"], row["state"], _minute(row["minute"]), row["note"]]
        for row in page["rows"]
    ]
    output.table(("ROW", "TENANT", "METER", "VALUE", "STATE", "STAMP", "NOTE"), rows)
    if page["next"] is not None:
        output.note(f"there may be more: --after {page['next']}")
    return 0


def outbox_retry(options: argparse.Namespace) -> int:
    """Sends a row again."""
    return _show_row(options, perform(options, "desk.outbox_retry", {"row": options.row}), "is sent again")


def outbox_carry(options: argparse.Namespace) -> int:
    """Carries a row's usage into the open period."""
    return _show_row(
        options, perform(options, "desk.outbox_carry", {"row": options.row}), f"took the place of {options.row}"
    )


def outbox_drop(options: argparse.Namespace) -> int:
    """Writes a row off."""
    arguments = {"row": options.row, "reason": options.reason}
    return _show_row(options, perform(options, "desk.outbox_drop", arguments), "is written off")


def _show_report(report: dict[str, Any], differences: list[dict[str, Any]]) -> None:
    names = ("ledger", "assigned", "under_way", "accepted", "verified", "waiting", "payee")
    rows = [
        [
            line["tenant"],
            line["meter"],
            _day(line["period"]["start_s"]),
            *("-" if line[name] is None else line[name] for name in names),
            *_invoice(line["invoice"]),
            "agrees" if line["agrees"] else f"{len(line['differences'])} differ",
        ]
        for line in report["lines"]
    ]
    output.table(
        (
            "TENANT",
            "METER",
            "PERIOD FROM",
            *(name.replace("_", " ").upper() for name in names),
            "INVOICED",
            "INVOICE",
            "",
        ),
        rows,
    )
    for found in differences:
        where = "" if found["minute"] is None else f" at {_minute(found['minute'])}"
        ours, theirs = ("-" if found[name] is None else found[name] for name in ("ours", "theirs"))
        output.out(f"\n{found['kind']}: {found['tenant']}, {found['meter']}{where}: ours {ours}, theirs {theirs}")
        output.out(f"  {'; '.join(filter(None, (found['note'], found['action'])))}")
    if report["next"] is not None:
        output.note(f"there may be more tenants: --after {report['next']}")
    output.out(f"\nbook {report['instance']}, {_minute(report['at_s'] // 60)}, sha256 {report['digest']}")


def _invoice(found: dict[str, Any] | None) -> tuple[str | int, str]:
    """The quantity, and which invoice; one that may still change is marked."""
    if found is None:
        return "-", "-"
    quantity = "-" if found["quantity"] is None else found["quantity"]
    return quantity, (found["number"] or found["id"]) + ("" if found["final"] else " (draft)")


def _show_row(options: argparse.Namespace, row: dict[str, Any], what: str) -> int:
    if options.json:
        output.out_json(row)
    else:
        output.out(f"row {row['id']} ({row['value']} of {row['meter']}, {row['tenant']}) {what}")
    return 0


def _minute(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _day(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")
