"""What can be typed. Every command takes its options after its name; this module only describes them."""

import argparse
from typing import TypeAlias

_PERIODS = "instead of a range: billing, previous (the billing period before), day, month:Europe/Berlin or the like"
_BY = "such as route,day: tenant, plan, key, route, status, sandbox, and one of minute, hour, day, month"
_EXPIRES = "how long it works, such as 90d (default: until it is revoked)"


def make_parser() -> argparse.ArgumentParser:
    """The parser; the namespace it makes has ``command``, such as ``keys create``, and the command's own options."""
    parser = argparse.ArgumentParser(
        prog="sidecar",
        description="Keys, plans, limits, quotas, a usage ledger and metrics in front of any HTTP API.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_const", const="version", dest="command", help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    _add_run(commands)
    _add_config(commands)
    _add_reload(commands)
    _add_tenants(_group(commands, "tenants", "who pays: add, list, show, set"))
    _add_keys(_group(commands, "keys", "API keys: create, list, revoke, rotate"))
    _add_schema(_group(commands, "schema", "the tables of a PostgreSQL store: apply, show"))
    _add_migrate(commands)
    _add_usage(commands)
    _add_export(commands)
    _add_margin(commands)
    _add_explain(commands)
    _add_plan(commands)
    _add_reconcile(commands)
    _add_outbox(_group(commands, "outbox", "usage on its way to the payee: list, retry, carry, drop"))
    _add_credits(_group(commands, "credits", "prepaid credits: grant, list, revoke, balance"))
    _add_stripe(_group(commands, "stripe", "Stripe: plan, apply, drift of the catalogue; checkout, portal"))
    _add_notify(commands)
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(command="version")
    version.add_argument("--json", action="store_true", help="print JSON")
    return parser


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_run(commands: _Commands) -> None:
    run = commands.add_parser("run", help="serve", description="Serves until SIGTERM or SIGINT.", allow_abbrev=False)
    run.set_defaults(command="run")
    _add_places(run)
    run.add_argument("--upstream", metavar="URL", help="the API to protect, such as http://127.0.0.1:9000")
    run.add_argument("--listen", metavar="HOST:PORT", help="where clients connect (default: 0.0.0.0:8080)")
    run.add_argument("--admin", metavar="HOST:PORT", help="the admin port (default: 127.0.0.1:9901)")
    run.add_argument(
        "--takeover",
        action="store_true",
        help="from the sidecar that runs on the same data folder, losing no connection",
    )


def _add_config(commands: _Commands) -> None:
    check = _command(commands, "check", "check", "validate sidecar.yaml and the policies; exit code 2 with every fault")
    check.add_argument("--upstream", metavar="URL", help="the API to protect, when the file does not say")
    group = _group(commands, "config", "what is in force: show")
    show = _command(group, "config show", "show", "print the configuration in force, secrets masked")
    show.add_argument("--effective", action="store_true", help="with defaults and overrides; this is the only form")


def _add_reload(commands: _Commands) -> None:
    _command(commands, "reload", "reload", "have the running sidecar read its configuration again")


def _add_tenants(group: _Commands) -> None:
    add = _command(group, "tenants add", "add", "add a tenant")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--plan", required=True)
    _add_page(_command(group, "tenants list", "list", "list tenants"))
    show = _command(group, "tenants show", "show", "show a tenant")
    show.add_argument("name", metavar="NAME")
    change = _command(group, "tenants set", "set", "change a tenant's plan or access state")
    change.add_argument("name", metavar="NAME")
    change.add_argument("--plan")
    change.add_argument("--state", help="active, grace, read_only, suspended or closed")
    terms = _command(group, "tenants terms", "terms", "show or replace a tenant's anchor, time zone and overrides")
    terms.add_argument("tenant", metavar="NAME")
    terms.add_argument(
        "--set", metavar="JSON", help='all of them, such as \'{"time_zone": "Europe/Berlin"}\'; {}: none'
    )


def _add_keys(group: _Commands) -> None:
    create = _command(group, "keys create", "create", "make a key; it alone is printed on stdout, this once")
    create.add_argument("tenant", metavar="TENANT")
    create.add_argument("--name", required=True, help="what the key is for, such as ci")
    create.add_argument("--test", action="store_true", help="a test key: own limits, never billed")
    create.add_argument("--expires", metavar="DURATION", help=_EXPIRES)
    create.add_argument("--scopes", metavar="A,B", help="what it may do (default: everything)")
    keys = _command(group, "keys list", "list", "list a tenant's keys, ended ones too")
    keys.add_argument("tenant", metavar="TENANT")
    _add_page(keys)
    revoke = _command(group, "keys revoke", "revoke", "end a key at once")
    revoke.add_argument("key_id", metavar="KEY_ID")
    rotate = _command(group, "keys rotate", "rotate", "make a successor of a key and end the old one later")
    rotate.add_argument("key_id", metavar="KEY_ID")
    rotate.add_argument("--overlap", metavar="DURATION", default="24h", help="how long the old one works (24h); 0: not")


def _add_schema(group: _Commands) -> None:
    _command(group, "schema apply", "apply", "make or update the tables, as the owner that SIDECAR_OWNER_URL names")
    _command(group, "schema show", "show", "print the schema's version, and what is to be applied")


def _add_migrate(commands: _Commands) -> None:
    text = "move a SQLite installation to the PostgreSQL that storage: names, while no sidecar runs"
    migrate = _command(commands, "migrate", "migrate", text, json=False)
    migrate.add_argument(
        "--from", metavar="URL", dest="source", required=True, help="what to move, such as sqlite:///data/sidecar.db"
    )


def _add_usage(commands: _Commands) -> None:
    usage = _command(commands, "usage", "usage", "what a tenant used; with --by, what all or some used, in groups")
    usage.set_defaults(refuse=usage.error)
    usage.add_argument("tenant", metavar="TENANT", nargs="?", help="may be left out with --by")
    usage.add_argument("--by", metavar="PARTS", help=_BY)
    _add_range(usage, "1d")
    usage.set_defaults(since=None)
    usage.add_argument("--period", metavar="PERIOD", help=_PERIODS)
    _add_narrowing(usage)
    usage.add_argument("--after", metavar="CURSOR", help="with --by: the page after this cursor")
    usage.add_argument("--limit", metavar="N", type=int, help="with --by: at most so many rows, up to 1000 (100)")


def _add_export(commands: _Commands) -> None:
    export = _command(commands, "export", "export", "write single calls or grouped usage to a file", json=False)
    export.set_defaults(refuse=export.error)
    export.add_argument("tenant", metavar="TENANT", nargs="?", help="default: all tenants")
    export.add_argument("--what", choices=("events", "usage"), default="events", help="single calls, or sums (events)")
    export.add_argument("--format", choices=("csv", "parquet", "cloudevents"), default="csv")
    export.add_argument("--by", metavar="PARTS", help=f"for usage, {_BY} (tenant,route,day)")
    _add_range(export, "1d")
    _add_narrowing(export)
    export.add_argument("--output", metavar="FILE", help="written whole or not at all (default: stdout)")


def _add_margin(commands: _Commands) -> None:
    margin = _command(commands, "margin", "margin", "what tenants earned, what serving them cost, and the price floor")
    margin.set_defaults(refuse=margin.error)
    views = ("tenant", "plan", "route", "month")
    margin.add_argument("--by", choices=views, help="default: plan; tenant, with their own --period")
    margin.add_argument("--tenant", metavar="TENANT", help="of this one alone")
    margin.add_argument("--month", metavar="YYYY-MM", help="a calendar month, UTC (default: the running one)")
    margin.add_argument("--period", metavar="PERIOD", help=_PERIODS)
    _add_range(margin, None)
    margin.add_argument("--buffer", metavar="PERCENT", help="of the price floor on the cost, such as 30%%")
    margin.add_argument("--after", metavar="CURSOR", help="with --by tenant: the page after this cursor")
    margin.add_argument("--limit", metavar="N", type=int, help="with --by tenant: at most so many, up to 1000 (100)")


def _add_explain(commands: _Commands) -> None:
    explain = _command(commands, "explain", "explain", "what a request would be answered now, and by which policies")
    explain.add_argument("--route", required=True, help="the route's name")
    explain.add_argument("--tenant", help="who calls; not for routes with auth: none")
    explain.add_argument("--method", help="such as POST (default: GET, where the route takes it)")
    explain.add_argument("--key", metavar="KEY_ID", help="with this key (default: any live key)")
    explain.add_argument("--test", action="store_true", help="with a test key")
    explain.add_argument("--ip", metavar="ADDRESS", help="from this address, for limits by ip")
    explain.add_argument(
        "--header", metavar="LINE", action="append", help="with this header, such as 'X-Org: acme'; may be repeated"
    )


def _add_plan(commands: _Commands) -> None:
    text = "what new policies would change, and for whom; exit code 0: nothing, 2: something, 1: they have faults"
    plan = _command(commands, "plan", "plan", text)
    plan.add_argument("new", metavar="NEW", help="a folder of policies, a folder with a sidecar.yaml, or such a file")
    plan.add_argument(
        "--tenants", metavar="N", type=int, default=1000, help="look at so many tenants at most (1000); 0: at none"
    )


def _add_reconcile(commands: _Commands) -> None:
    reconcile = _command(commands, "reconcile", "reconcile", "compare ledger, outbox and the payee's own sums")
    reconcile.add_argument(
        "--period",
        metavar="PERIOD",
        default="current",
        help="current, previous, or the month in which it began (2026-10); default: current",
    )
    reconcile.add_argument("--statement", metavar="FILE", help="print a report saved as JSON as a statement to sign")
    reconcile.add_argument("--tenant", metavar="TENANT", help="of this one alone")
    reconcile.add_argument("--after", metavar="TENANT", default="", help="start after this one")
    reconcile.add_argument("--limit", metavar="N", type=int, default=100, help="at most so many tenants, up to 1000")


def _add_outbox(group: _Commands) -> None:
    listing = _command(group, "outbox list", "list", "list rows that wait for a person, or those of a state")
    listing.add_argument("--state", metavar="STATE", help="rows in this state, such as sent or verified")
    listing.add_argument("--tenant", metavar="TENANT", help="of this one alone")
    listing.add_argument("--after", metavar="ROW", default="0", help="start after this one")
    listing.add_argument("--limit", metavar="N", type=int, default=100, help="at most so many, up to 1000")
    retry = _command(group, "outbox retry", "retry", "send a row again, with the same identifier")
    carry = _command(group, "outbox carry", "carry", "ask for a row's usage anew, in its own period or in the open one")
    drop = _command(group, "outbox drop", "drop", "write a row off: its usage is not billed")
    for parser in (retry, carry, drop):
        parser.add_argument("row", metavar="ROW", help="its number, as list shows it")
    drop.add_argument("--reason", required=True, help="kept with the row")


def _add_credits(group: _Commands) -> None:
    grant = _command(group, "credits grant", "grant", "give a tenant credits; the same source is granted once")
    grant.add_argument("tenant", metavar="TENANT")
    grant.add_argument("--amount", required=True, metavar="MONEY", help='such as "20.00 USD"')
    grant.add_argument("--source", metavar="ID", help="what for, such as a payment's id (default: a new one)")
    grant.add_argument("--priority", metavar="N", help="lower ones burn first (100)")
    grant.add_argument("--expires", metavar="DURATION", help="how long they can be burned, such as 365d (no end)")
    grant.add_argument("--paid", metavar="MONEY", help='what came in for it: "0 USD" for a present (default: all)')
    grant.add_argument("--note", metavar="TEXT", help="kept with the grant")
    listing = _command(group, "credits list", "list", "list a tenant's grants, ended ones too")
    listing.add_argument("tenant", metavar="TENANT")
    _add_page(listing)
    revoke = _command(group, "credits revoke", "revoke", "end a grant: nothing more is burned of it")
    revoke.add_argument("tenant", metavar="TENANT")
    revoke.add_argument("source", metavar="SOURCE")
    balance = _command(group, "credits balance", "balance", "show what a tenant can still burn")
    balance.add_argument("tenant", metavar="TENANT")


def _add_stripe(group: _Commands) -> None:
    _command(group, "stripe plan", "plan", "print what apply would change at Stripe")
    _command(group, "stripe apply", "apply", "make meters, products and prices at Stripe what the policies say")
    _command(group, "stripe drift", "drift", "exit code 1 and the differences when Stripe does not hold what they say")

    checkout = _command(group, "stripe checkout", "checkout", "print a link to buy a plan for a tenant, new or not")
    checkout.add_argument("tenant", metavar="TENANT")
    checkout.add_argument("--plan", required=True)
    checkout.add_argument("--trial-days", metavar="N", type=int, help="nothing is due for so many days")
    checkout.add_argument("--success-url", metavar="URL", help="where to go then (default: the sidecar's welcome page)")
    _command(group, "stripe selftest", "selftest", "try in a sandbox what Stripe's documentation leaves open")
    portal = _command(group, "stripe portal", "portal", "print a link where a tenant looks after its subscription")
    portal.add_argument("tenant", metavar="TENANT")


def _add_notify(commands: _Commands) -> None:
    notify = _command(commands, "notify", "notify", "send an example of a notice by every channel, or show it")
    notify.add_argument("--dry-run", action="store_true", help="print what would go out, send nothing")
    notify.add_argument("--kind", default="access.read_only", help="which notice (access.read_only)")
    notify.add_argument("--tenant", metavar="TENANT", default="acme", help="about whom (acme)")


def _add_range(parser: argparse.ArgumentParser, since: str | None) -> None:
    shown = f" (default: {since})" if since else ""
    parser.add_argument(
        "--since", metavar="WHEN", default=since, help=f"a duration before now (1d), or an ISO 8601 time{shown}"
    )
    parser.add_argument("--until", metavar="WHEN", help="the same (default: now)")


def _add_narrowing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", help="with grouped usage: of this plan alone")
    parser.add_argument("--key", metavar="KEY_ID", help="with grouped usage: of this key alone")
    parser.add_argument("--route", help="with grouped usage: of this route alone")
    parser.add_argument("--sandbox", choices=("true", "false", "any"), help="test keys, live keys (default) or both")


def _group(commands: _Commands, name: str, help_text: str) -> _Commands:
    parser = commands.add_parser(name, help=help_text, allow_abbrev=False)
    return parser.add_subparsers(metavar="COMMAND", title="commands", required=True)


def _command(
    commands: _Commands, full_name: str, name: str, help_text: str, *, json: bool = True
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
    parser.set_defaults(command=full_name)
    _add_places(parser)
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="the configuration (default: sidecar.yaml if there is one)")
    parser.add_argument("--data", metavar="FOLDER", help="the folder of everything that must survive (default: data)")


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--after", metavar="NAME", default="", help="start after this one")
    parser.add_argument("--limit", metavar="N", type=int, default=1000, help="at most so many, up to 1000")
