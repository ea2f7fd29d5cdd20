"""The command that explains a decision."""

import argparse
from typing import Any

from sidecar.cli import output
from sidecar.cli.reach import perform


def explain(options: argparse.Namespace) -> int:
    """Prints what a request would be answered; 0 whatever that is."""
    names = ("route", "tenant", "method", "key", "ip", "header")
    arguments = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.test:
        arguments["test"] = "true"
    document = perform(options, "explainer.explain", arguments)
    if options.json:
        output.out_json(document)
    else:
        _show(document)
    return 0


def _show(document: dict[str, Any]) -> None:
    who = "callers without a key" if document["tenant"] is None else document["tenant"]
    kind = " with a test key" if document.get("test") else ""
    plan = f", plan {document['plan']} ({document['plan_from']})" if document["plan"] else ""
    units = document["units"]
    output.out(f"{who}{kind}: {document['method']} at {document['route']}, {units} units{plan}")
    if not document["live"]:
        output.note("no sidecar runs here: what is counted in process is empty")
    if document["checks"]:
        output.out("")
        output.table(
            ("CHECK", "SAYS", "REFUSES WITH"), [(one["check"], one["says"], one["code"]) for one in document["checks"]]
        )
    if document["policies"]:
        output.out("")
        output.table(_HEAD, [_row(one) for one in document["policies"]])
    if document["store"] is not None:
        output.out(f"\nthe store of limits {document['store']}")
    for part in document["say"]:
        output.note(f"a counter depends on {part}: say {_option(part)}")
    answer = document["answer"]
    output.out("")
    if answer["status"] is None:
        output.out(f"now: {answer['detail']}")
    else:
        output.out(f"now: {answer['status']} {answer['code']}: {answer['detail']}")
    trial = [one["name"] for one in document["policies"] if one["mode"] == "shadow" and one["refuses"]]
    if trial:
        output.out(f"in shadow mode, would refuse: {', '.join(trial)}")


_HEAD = (
    "POLICY",
    "KIND",
    "MODE",
    "LIMIT",
    "PER",
    "USED",
    "LEASED",
    "REMAINING",
    "RESET S",
    "REFUSES",
    "COUNTER",
    "STORE GONE",
    "FROM",
)


def _row(one: dict[str, Any]) -> list[Any]:
    counter = one["bucket"] or f"({', '.join(one['scope'])})"
    return [
        one["name"],
        one["kind"],
        one["mode"],
        one["limit"],
        one.get("window") or one.get("period"),
        one["used"],
        one["leased"],
        one["remaining"],
        one["reset_s"],
        "yes" if one["refuses"] else "no",
        counter,
        one["on_store_error"],
        one["from"],
    ]


def _option(part: str) -> str:
    if part.startswith("header:"):
        return f"--header '{part[7:]}: ...'"
    return {"ip": "--ip ADDRESS", "key": "--key KEY_ID"}[part]
