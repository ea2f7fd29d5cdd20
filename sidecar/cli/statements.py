"""A saved report of `sidecar reconcile --json` as a statement that a person reads, checks and signs."""

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidecar.core.errors import SidecarError


def statement(file: str) -> tuple[str, bool]:
    """The text, and whether everything in it agrees. SidecarError when the file is no report, or was changed since."""
    from sidecar.billing import digest_of

    try:
        report: dict[str, Any] = json.loads(Path(file).read_text())
        digest, written = digest_of(report), report["digest"]
    except OSError as error:
        raise SidecarError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError):
        raise SidecarError(f"{file} is no report; make one with: sidecar reconcile --json > FILE") from None
    if digest != written:
        raise SidecarError(f"{file} was changed after it was made: its digest is {digest}, not {written}")
    return _text(report), all(line["agrees"] for line in report["lines"])


def _text(report: dict[str, Any]) -> str:
    lines = [
        "STATEMENT OF USAGE",
        f"Book {report['instance']}, compared at {_time(report['at_s'])}",
        "",
    ]
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for line in report["lines"]:
        period = f"{_time(line['period']['start_s'])} to {_time(line['period']['end_s'])}"
        payee = "not known" if line["payee"] is None else f"{line['payee']:,}"
        lines += [
            f"{line['tenant']} ({line['customer']}), {line['meter']}, {period}",
            f"  served {line['ledger']:,}, asked for {line['assigned']:,}, at the payee {payee}: "
            + ("agrees" if line["agrees"] else "DIFFERS"),
            f"  {_invoice(line.get('invoice'))}",
        ]
        lines += [_difference(difference) for difference in line["differences"]]
        for at, name in enumerate(("ledger", "assigned", "payee")):
            totals[line["meter"]][at] += line[name] or 0
    lines += ["", "Totals, of what is listed above"]
    lines += [f"  {meter}: served {a:,}, asked for {b:,}, at the payee {c:,}" for meter, (a, b, c) in totals.items()]
    if report.get("next") is not None:
        lines += [f"  NOT ALL TENANTS: those after {report['next']} are in another report"]
    lines += ["", f"SHA-256 of the report: {report['digest']}", "", "Checked by:", "", "Date, signature:", ""]
    return "\n".join(lines)


def _invoice(found: dict[str, Any] | None) -> str:
    if found is None:
        return "no invoice over this period"
    quantity = "no quantity yet" if found["quantity"] is None else f"asks for {found['quantity']:,}"
    number = f"{found['number']} ({found['id']})" if found["number"] else found["id"]
    return f"invoice {number}, {'final' if found['final'] else 'a draft'}: {quantity}"


def _difference(found: dict[str, Any]) -> str:
    ours, theirs = ("-" if found[name] is None else f"{found[name]:,}" for name in ("ours", "theirs"))
    where = "" if found["minute"] is None else f" at {_time(found['minute'] * 60)}"
    said = "; ".join(filter(None, (found["note"], found["action"])))
    return f"  {found['kind']}{where}: ours {ours}, theirs {theirs}. {said}"


def _time(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
