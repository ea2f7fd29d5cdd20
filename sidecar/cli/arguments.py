"""What can be typed. Every command takes its options after its name; this module only describes them."""

import argparse
from typing import TypeAlias

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
    _add_tenants(_group(commands, "tenants", "who pays: add, list, show, set"))
    _add_keys(_group(commands, "keys", "API keys: create, list, revoke, rotate"))
    _add_usage(commands)
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


def _add_config(commands: _Commands) -> None:
    check = _command(commands, "check", "check", "validate sidecar.yaml and the policies; exit code 2 with every fault")
    check.add_argument("--upstream", metavar="URL", help="the API to protect, when the file does not say")
    group = _group(commands, "config", "what is in force: show")
    show = _command(group, "config show", "show", "print the configuration in force, secrets masked")
    show.add_argument("--effective", action="store_true", help="with defaults and overrides; this is the only form")


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


def _add_usage(commands: _Commands) -> None:
    usage = _command(commands, "usage", "usage", "what a tenant used")
    usage.add_argument("tenant", metavar="TENANT")
    usage.add_argument("--since", metavar="WHEN", default="1d", help="a duration before now (1d), or an ISO 8601 time")
    usage.add_argument("--until", metavar="WHEN", help="the same (default: now)")


def _group(commands: _Commands, name: str, help_text: str) -> _Commands:
    parser = commands.add_parser(name, help=help_text, allow_abbrev=False)
    return parser.add_subparsers(metavar="COMMAND", title="commands", required=True)


def _command(commands: _Commands, full_name: str, name: str, help_text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
    parser.set_defaults(command=full_name)
    _add_places(parser)
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="the configuration (default: sidecar.yaml if there is one)")
    parser.add_argument("--data", metavar="FOLDER", help="the folder of everything that must survive (default: data)")


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--after", metavar="NAME", default="", help="start after this one")
    parser.add_argument("--limit", metavar="N", type=int, default=1000, help="at most so many, up to 1000")
