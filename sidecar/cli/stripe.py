"""The commands on the catalogue at Stripe. They read the configuration and need no sidecar to run."""

import argparse
from collections.abc import Sequence

from sidecar.cli import output
from sidecar.cli.commands import load_snapshot


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


def _show(options: argparse.Namespace, lines: list[str], blocked: Sequence[str], nothing: str) -> int:
    if options.json:
        output.out_json({"changes": lines, "blocked": list(blocked)})
    elif lines:
        output.out("\n".join(lines))
    else:
        output.note(nothing)
    return 1 if blocked else 0
