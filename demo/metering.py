"""The part of the show about usage: what the ledger holds arrives at the stand-in for Stripe as metered events."""

import json
from datetime import UTC, datetime

from demo.calls import Reply, heading
from demo.payments import Stage, patiently

BEHIND_S = 240  # a minute of usage is closed two minutes after its end; the demo's is that much older at once
# A period has whole minutes, from the first that begins in it: a customer of a minute and a half ago has one.
STRIPE_BEHIND_S = BEHIND_S + 90


def meter(show: Stage, stripe: str, tenant: str) -> None:
    """Four minutes later: the events, and their sums beside the ledger's."""
    heading("Metered: what was used is what Stripe has")
    print("A minute's usage is sent when it is three minutes old. Until now the demo's clocks were minutes behind;")
    print("the sidecar is stopped and started again, as after an update, and reports at once:")
    Reply(stripe, "POST", "/_fake/catch-up")
    show.restart()
    account = json.loads(show.command("tenants", "show", tenant, "--json"))["payment"]
    customer = account["customer"]
    lines = json.loads(show.command("reconcile", "--tenant", tenant, "--json"))["lines"]
    wanted = {line["event_name"]: line["ledger"] for line in lines}
    patiently(lambda: _sums(stripe, customer) == wanted or None)
    print(f"\n$ curl {stripe}/_fake/usage")
    for event in _events(stripe, customer):
        at = datetime.fromtimestamp(int(event["timestamp"]), UTC)
        print(f"    {event['event']}  value {event['value']}  of {at:%H:%M} UTC  for {event['customer']}")
    found = _sums(stripe, customer)
    print(f"\n{'EVENT':<16}{'LEDGER':>8}{'STRIPE':>8}")
    for name, ledger in wanted.items():
        theirs = found.get(name, 0)
        print(f"{name:<16}{ledger:>8}{theirs:>8}  {'the same' if theirs == ledger else 'DIFFERENT'}")
        show.expect(ledger > 0 and theirs == ledger, f"{name}: {ledger} in the ledger, {theirs} at Stripe")
    print()
    print(show.command("reconcile", "--tenant", tenant).rstrip())


def _events(stripe: str, customer: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(Reply(stripe, "GET", "/_fake/usage").text)
    return [row for row in rows if row["customer"] == customer]


def _sums(stripe: str, customer: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in _events(stripe, customer):
        sums[row["event"]] = sums.get(row["event"], 0) + int(row["value"])
    return sums
