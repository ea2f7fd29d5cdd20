"""The commands. Each gets the parsed options and returns the exit code. Heavy modules are imported where they are
needed, so that `sidecar keys list` against a running sidecar starts in the time the interpreter needs."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.cli import output, reach
from sidecar.cli.files import whole_file
from sidecar.cli.reach import config_file, fetch, perform
from sidecar.core.errors import ConfigError, SidecarError

if TYPE_CHECKING:
    from sidecar.core.policy import Snapshot

_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^@/?#:,\[\]]*)(:\d*)?"
_OWNER_URL = re.compile(rf"postgres(ql)?://([^/?#]*@)?{_HOST}(,{_HOST})*([/?][^#@]*)?")


def run(options: argparse.Namespace) -> int:
    """Serves until it is told to stop."""
    from sidecar import serve
    from sidecar.config import Overrides

    overrides = Overrides(options.upstream, options.listen, options.admin, options.data)
    return serve.run(_path(options), overrides, takeover=options.takeover)


def check(options: argparse.Namespace) -> int:
    """Prints every fault and returns 2, or one line, what metered use costs, and 0."""
    from sidecar.config import Overrides, load, price_lines

    file = config_file(options)
    overrides = Overrides(upstream=options.upstream, data=options.data)
    try:
        snapshot = load(_path(options), overrides, os.environ, needs_upstream=file is not None)
    except ConfigError as error:
        if options.json:
            output.out_json({"ok": False, "faults": [asdict(fault) for fault in error.faults]})
        else:
            output.out(str(error))
            output.note(f"{len(error.faults)} {'fault' if len(error.faults) == 1 else 'faults'}")
        return 2
    counts = {name: len(getattr(snapshot, name)) for name in ("upstreams", "routes", "plans", "meters", "tenants")}
    prices = price_lines(snapshot)
    if options.json:
        known = {"ok": True, "faults": [], "file": None if file is None else str(file)}
        known["prices"] = [
            {"plan": plan, "meter": meter, "1": one, "1000": more, "1000000": most}
            for plan, meter, (one, more, most) in prices
        ]
        output.out_json(known | counts)
    else:
        what = "the built-in configuration" if file is None else str(file)
        output.out(
            f"{what} is good: "
            + ", ".join(f"{count} {name if count != 1 else name[:-1]}" for name, count in counts.items())
        )
        if prices:
            output.table(("PLAN", "METER", "1 COSTS", "1,000", "1,000,000"), [(p, m, *costs) for p, m, costs in prices])
    return 0


def config_show(options: argparse.Namespace) -> int:
    """Prints the configuration in force as YAML that loads again, secrets masked."""
    from sidecar.config import Overrides, effective, load

    text = effective(load(_path(options), Overrides(data=options.data), os.environ, needs_upstream=False))
    if options.json:
        import yaml

        output.out_json(yaml.safe_load(text))
    else:
        output.out(text.rstrip("\n"))
    return 0


def reload(options: argparse.Namespace) -> int:
    """Has the running sidecar read its configuration again."""
    result = reach.reload(options)
    if options.json:
        output.out_json(result)
    else:
        output.out(f"reloaded, policy {result['policy']}")
    return 0


def version(options: argparse.Namespace) -> int:
    """Prints the installed version."""
    number = installed_version("sidecar")
    if getattr(options, "json", False):
        output.out_json({"version": number})
    else:
        output.out(f"sidecar {number}")
    return 0


def tenants_add(options: argparse.Namespace) -> int:
    """Adds a tenant to the store."""
    return _show_tenant(options, perform(options, "tenants_add", {"name": options.name, "plan": options.plan}))


def tenants_list(options: argparse.Namespace) -> int:
    """Lists a page of tenants."""
    page = perform(options, "tenants_list", {"after": options.after, "limit": options.limit})
    if options.json:
        output.out_json(page)
    else:
        output.tenants(page["tenants"])
        _say_more(page)
    return 0


def tenants_show(options: argparse.Namespace) -> int:
    """Shows a tenant."""
    return _show_tenant(options, perform(options, "tenants_show", {"name": options.name}))


def tenants_set(options: argparse.Namespace) -> int:
    """Changes a tenant."""
    changes = {name: getattr(options, name) for name in ("plan", "state") if getattr(options, name) is not None}
    return _show_tenant(options, perform(options, "tenants_set", {"name": options.name} | changes))


def keys_create(options: argparse.Namespace) -> int:
    """Makes a key: it alone goes to stdout."""
    arguments: dict[str, Any] = {"tenant": options.tenant, "name": options.name, "test": options.test}
    if options.expires is not None:
        arguments["expires"] = options.expires
    if options.scopes is not None:
        arguments["scopes"] = [scope.strip() for scope in options.scopes.split(",") if scope.strip()]
    return _show_new_key(options, perform(options, "keys_create", arguments))


def keys_list(options: argparse.Namespace) -> int:
    """Lists a page of a tenant's keys."""
    arguments = {"tenant": options.tenant, "after": options.after, "limit": options.limit}
    page = perform(options, "keys_list", arguments)
    if options.json:
        output.out_json(page)
    else:
        output.keys(page["keys"])
        _say_more(page)
    return 0


def keys_revoke(options: argparse.Namespace) -> int:
    """Ends a key."""
    key = perform(options, "keys_revoke", {"key_id": options.key_id})
    if options.json:
        output.out_json(key)
    else:
        output.out(f"key {key['id']} ({key['name']}) of {key['tenant']} is revoked")
    return 0


def keys_rotate(options: argparse.Namespace) -> int:
    """Makes a successor: it alone goes to stdout."""
    return _show_new_key(
        options, perform(options, "keys_rotate", {"key_id": options.key_id, "overlap": options.overlap})
    )


def schema_apply(options: argparse.Namespace) -> int:
    """Brings the PostgreSQL schema to this version. The owner's URL holds a password: it is taken from the environment
    alone, for arguments can be seen by every user of the machine."""
    import asyncio

    from sidecar.app import apply_schema, show_schema

    owner_url = os.environ.get("SIDECAR_OWNER_URL")
    if not owner_url:
        raise ValueError("set SIDECAR_OWNER_URL to the URL of the role that is to own the tables")
    _check_owner_url(owner_url)
    snapshot = load_snapshot(options)
    applied = asyncio.run(apply_schema(snapshot, owner_url))
    if options.json:
        output.out_json({"applied": applied})
    else:
        output.out(f"applied {', '.join(map(str, applied))}" if applied else "the schema is up to date")
    try:
        version, pending = asyncio.run(show_schema(snapshot))
    except SidecarError as error:
        output.note(f"the URL of storage: could not be looked at: {error}")
        return 0
    if pending:
        raise SidecarError(f"SIDECAR_OWNER_URL names another database than storage:, which still has schema {version}")
    return 0


def _check_owner_url(url: str) -> None:
    """Before anything takes the URL apart: a raw / or # in a password ends the host, and what comes before it would
    stand in an error as the host's name."""
    if _OWNER_URL.fullmatch(url) is None:
        raise ValueError(
            "SIDECAR_OWNER_URL is no PostgreSQL URL; write postgresql://user:password@host:5432/database, the password "
            "percent-encoded"
        )


def schema_show(options: argparse.Namespace) -> int:
    """Prints how far the schema is; 1 when something is to be applied."""
    import asyncio

    from sidecar.app import show_schema

    version, pending = asyncio.run(show_schema(load_snapshot(options)))
    if options.json:
        output.out_json({"version": version, "pending": list(pending)})
    else:
        rest = f", to be applied: {', '.join(map(str, pending))}" if pending else ", up to date"
        output.out(f"schema {version}{rest}")
    return 1 if pending else 0


def migrate(options: argparse.Namespace) -> int:
    """Moves a SQLite installation to PostgreSQL."""
    import asyncio

    from sidecar.app import move_storage

    if asyncio.run(move_storage(load_snapshot(options), options.source, output.out)):
        output.out("moved: start the sidecar; keep the file until you trust its successor")
    else:
        output.out("it was moved before; there is nothing to do")
    return 0


def usage(options: argparse.Namespace) -> int:
    """Shows what a tenant used, or grouped usage."""
    grouped = _given(options, "plan", "key", "route", "sandbox", "after", "limit")
    if options.by is not None:
        if options.period is not None:
            options.refuse("--period is of one tenant, without --by")
        page = perform(options, "usage_by", grouped | _given(options, "by", "tenant", "since", "until"))
        return _show_page(options, page, output.usage_rows)
    if options.tenant is None:
        options.refuse("name a TENANT, or say --by")
    if grouped:
        options.refuse(f"--{next(iter(grouped))} needs --by")
    if options.period is not None and (options.since or options.until):
        options.refuse("--period and --since or --until exclude each other")
    report = perform(options, "usage", _given(options, "tenant", "since", "until", "period"))
    if options.json:
        output.out_json(report)
    else:
        output.usage(report)
    return 0


def export(options: argparse.Namespace) -> int:
    """Writes an export to a file or to stdout."""
    arguments = _given(options, "what", "format", "since", "until", "by", "tenant", "plan", "key", "route", "sandbox")
    if options.output is None:
        if options.format == "parquet" and sys.stdout.isatty():
            options.refuse("parquet is nothing for a terminal; write --output FILE")
        fetch(options, "export", arguments, sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
        return 0
    path = Path(options.output)
    if not path.name or path.is_dir():
        options.refuse(f"--output {options.output!r} is no file's name")
    with whole_file(path) as file:
        fetch(options, "export", arguments, file.write)
    output.note(f"wrote {options.output}")
    return 0


def margin(options: argparse.Namespace) -> int:
    """Shows margins and the price floor."""
    names = ("by", "tenant", "month", "period", "since", "until", "buffer", "after", "limit")
    return _show_page(options, perform(options, "margin", _given(options, *names)), output.margin)


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _show_page(options: argparse.Namespace, page: dict[str, Any], show: Callable[[dict[str, Any]], None]) -> int:
    if options.json:
        output.out_json(page)
    else:
        show(page)
        _say_more(page)
    return 0


def _show_tenant(options: argparse.Namespace, tenant: dict[str, Any]) -> int:
    if options.json:
        output.out_json(tenant)
    else:
        output.tenants([tenant])
        if tenant.get("payment") is not None:
            output.out(output.payment(tenant["payment"]))
    return 0


def _show_new_key(options: argparse.Namespace, key: dict[str, Any]) -> int:
    for warning in key.get("warnings", ()):
        output.note(f"warning: {warning}")
    if options.json:
        output.out_json(key)
        return 0
    output.out(key["key"])
    kind = "test key" if key["test"] else "live key"
    ends = f"expires {key['expires']}" if key["expires"] else "does not expire"
    output.note(f"{kind} {key['id']} ({key['name']}) of {key['tenant']}; {ends}. It is not shown again.")
    if "replaces" in key:
        old = key["replaces"]
        until = "is revoked" if old["status"] == "revoked" else f"works until {old['expires']}"
        output.note(f"The old key {old['id']} {until}.")
    return 0


def _say_more(page: dict[str, Any]) -> None:
    if page["next"] is not None:
        output.note(f"there are more: --after {page['next']}")


def load_snapshot(options: argparse.Namespace) -> "Snapshot":
    """What the options' files say. ConfigError."""
    from sidecar.config import Overrides, load

    return load(_path(options), Overrides(data=options.data), os.environ, needs_upstream=False)


def _path(options: argparse.Namespace) -> Path | None:
    return None if options.config is None else Path(options.config)
