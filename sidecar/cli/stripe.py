"""The commands on Stripe, and on who is told. They read the configuration and need no sidecar to run."""

import argparse
from collections.abc import Sequence
from typing import Any

from sidecar.cli import output
from sidecar.cli.commands import load_snapshot
from sidecar.cli.reach import perform
from sidecar.core.clock import SystemClock
from sidecar.core.errors import NotFound, SidecarError


def plan(options: argparse.Namespace) -> int:
    """Prints what apply would change."""
    import asyncio

    from sidecar.billing import plan_catalogue

    found = asyncio.run(plan_catalogue(load_snapshot(options)))
    return _show(options, found.lines, found.blocked, "Stripe holds what the policies say; there is nothing to apply")


def apply(options: argparse.Namespace) -> int:
    """Makes it so, and prints what was changed."""
    import asyncio

    from sidecar.billing import apply_catalogue

    done = asyncio.run(apply_catalogue(load_snapshot(options)))
    return _show(options, done.lines, (), "nothing had to be changed")


def drift(options: argparse.Namespace) -> int:
    """Prints the differences: exit code 1 when there are any."""
    import asyncio

    from sidecar.billing import plan_catalogue

    found = asyncio.run(plan_catalogue(load_snapshot(options)))
    _show(options, found.lines, found.blocked, "Stripe holds what the policies say")
    return 1 if found.lines else 0


def selftest(options: argparse.Namespace) -> int:
    """Prints what a sandbox answers: exit code 1 when reporting may not rely on it."""
    import asyncio

    from sidecar.billing import try_stripe

    found: list[dict[str, Any]] = []

    def say(question: str, answer: str, good: bool | None) -> None:
        found.append({"question": question, "answer": answer, "good": good})
        if not options.json:
            output.out(f"{'?' if good is None else 'ok' if good else 'NO'}  {question}\n    {answer}")

    good = asyncio.run(try_stripe(load_snapshot(options), say, SystemClock()))
    if options.json:
        output.out_json({"good": good, "findings": found})
    return 0 if good else 1


def checkout(options: argparse.Namespace) -> int:
    """Prints a link to buy a plan."""
    import asyncio

    from sidecar.billing import make_checkout
    from sidecar.core.names import check_tenant_name

    snapshot = load_snapshot(options)
    tenant = check_tenant_name(options.tenant)
    account = _payment(options, tenant) or {}
    if account.get("status") in ("active", "trialing", "past_due"):
        raise SidecarError(f"{tenant} has a subscription already; sidecar stripe portal {tenant} changes it")
    made = make_checkout(
        snapshot,
        tenant,
        options.plan,
        customer=account.get("customer"),
        success_url=options.success_url,
        trial_days=options.trial_days,
    )
    return _show_link(options, asyncio.run(made))


def portal(options: argparse.Namespace) -> int:
    """Prints a link to Stripe's customer portal."""
    import asyncio

    from sidecar.billing import make_portal

    snapshot = load_snapshot(options)
    account = _payment(options, options.tenant)
    if account is None:
        raise SidecarError(f"{options.tenant} is no customer yet; sidecar stripe checkout {options.tenant} --plan PLAN")
    return _show_link(options, asyncio.run(make_portal(snapshot, account["customer"])))


def notify(options: argparse.Namespace) -> int:
    """Sends an example by every channel, or shows it: exit code 1 when one was not taken."""
    import asyncio

    from sidecar.billing import preview_notices, send_notices

    snapshot, clock = load_snapshot(options), SystemClock()
    if options.dry_run:
        shown = preview_notices(snapshot, options.kind, options.tenant, clock)
        if options.json:
            output.out_json(shown)
        else:
            output.out("\n\n".join(f"--- {channel} ---\n{text}" for channel, text in shown.items()))
        return 0
    results = asyncio.run(send_notices(snapshot, options.kind, options.tenant, clock))
    if options.json:
        output.out_json({channel: failed or "sent" for channel, failed in results.items()})
    else:
        output.out("\n".join(f"{channel}: {failed or 'sent'}" for channel, failed in results.items()))
    return 1 if any(results.values()) else 0


def _payment(options: argparse.Namespace, tenant: str) -> dict[str, Any] | None:
    """The tenant's account, or who is declared to pay for it; None when there is neither."""
    try:
        shown = perform(options, "tenants_show", {"name": tenant})
    except NotFound:
        return None
    if shown.get("payment") is not None:
        return dict(shown["payment"])
    return {"customer": shown["stripe_customer"]} if shown.get("stripe_customer") else None


def _show_link(options: argparse.Namespace, url: str) -> int:
    if options.json:
        output.out_json({"url": url})
    else:
        output.out(url)
    return 0


def _show(options: argparse.Namespace, lines: list[str], blocked: Sequence[str], nothing: str) -> int:
    if options.json:
        output.out_json({"changes": lines, "blocked": list(blocked)})
    elif lines:
        output.out("\n".join(lines))
    else:
        output.note(nothing)
    return 1 if blocked else 0
