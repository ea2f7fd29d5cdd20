"""The commands on prepaid credits, and on what a tenant has of its own."""

import argparse
import json
from typing import Any

from sidecar.cli import output
from sidecar.cli.reach import perform


def grant(options: argparse.Namespace) -> int:
    """Gives a tenant credits."""
    names = ("amount", "source", "priority", "expires", "note", "paid")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    made = perform(options, "credits.grant", {"tenant": options.tenant} | given)
    if options.json:
        output.out_json(made)
        return 0
    what = "granted" if made["new"] else "was granted before, nothing was added:"
    output.out(f"{made['tenant']}: {what} {made['amount_text']} as {made['source']}, {made['left_text']} left of it")
    return 0


def listing(options: argparse.Namespace) -> int:
    """Lists a tenant's grants."""
    arguments = {"tenant": options.tenant, "after": options.after, "limit": options.limit}
    page = perform(options, "credits.listing", arguments)
    if options.json:
        output.out_json(page)
        return 0
    _table(page["grants"])
    if page["next"] is not None:
        output.note(f"there may be more: --after {page['next']}")
    return 0


def revoke(options: argparse.Namespace) -> int:
    """Ends a grant."""
    ended = perform(options, "credits.revoke", {"tenant": options.tenant, "source": options.source})
    if options.json:
        output.out_json(ended)
    else:
        output.out(f"{ended['tenant']}: {ended['source']} is {ended['state']}, nothing more is burned of it")
    return 0


def balance(options: argparse.Namespace) -> int:
    """Shows what can be burned."""
    found = perform(options, "credits.balance", {"tenant": options.tenant})
    if options.json:
        output.out_json(found)
        return 0
    output.out(f"{found['tenant']}: {found['available_text']} available")
    if not found["prepaid"]:
        output.out("its plan is not prepaid: nothing is burned")
    if found["grants"]:
        _table(found["grants"])
    return 0


def terms(options: argparse.Namespace) -> int:
    """Shows or replaces a tenant's own terms."""
    if options.set is None:
        found = perform(options, "terms.show", {"tenant": options.tenant})
    else:
        try:
            given = json.loads(options.set)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise ValueError(
                '--set takes a JSON object, such as \'{"overrides": {"quotas": {"monthly": {"limit": 5000}}}}\''
            )
        found = perform(options, "terms.set", {"tenant": options.tenant, "terms": given})
    output.out_json(found) if options.json else output.out(json.dumps(found["terms"], indent=2))
    return 0


def _table(grants: list[dict[str, Any]]) -> None:
    names = "source", "amount_text", "paid_text", "left_text", "priority", "expires", "state", "note"
    rows = [[row[name] for name in names] for row in grants]
    output.table(("SOURCE", "AMOUNT", "PAID", "LEFT", "PRIORITY", "EXPIRES", "STATE", "NOTE"), rows)
