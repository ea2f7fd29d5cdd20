"""From the command line to an exit code: 0 done, 1 failed, 2 wrong configuration or use (of ``plan``: changes)."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from sidecar.cli import billing, commands, credits, explaining, planning, stripe
from sidecar.cli.arguments import make_parser
from sidecar.core.errors import ConfigError, SidecarError

_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": commands.run,
    "check": commands.check,
    "config show": commands.config_show,
    "reload": commands.reload,
    "version": commands.version,
    "tenants add": commands.tenants_add,
    "tenants list": commands.tenants_list,
    "tenants show": commands.tenants_show,
    "tenants set": commands.tenants_set,
    "tenants terms": credits.terms,
    "keys create": commands.keys_create,
    "keys list": commands.keys_list,
    "keys revoke": commands.keys_revoke,
    "keys rotate": commands.keys_rotate,
    "schema apply": commands.schema_apply,
    "schema show": commands.schema_show,
    "migrate": commands.migrate,
    "usage": commands.usage,
    "export": commands.export,
    "margin": commands.margin,
    "explain": explaining.explain,
    "plan": planning.plan,
    "reconcile": billing.reconcile,
    "outbox list": billing.outbox_list,
    "outbox retry": billing.outbox_retry,
    "outbox carry": billing.outbox_carry,
    "outbox drop": billing.outbox_drop,
    "credits grant": credits.grant,
    "credits list": credits.listing,
    "credits revoke": credits.revoke,
    "credits balance": credits.balance,
    "stripe plan": stripe.plan,
    "stripe apply": stripe.apply,
    "stripe drift": stripe.drift,
    "stripe selftest": stripe.selftest,
    "stripe checkout": stripe.checkout,
    "stripe portal": stripe.portal,
    "notify": stripe.notify,
}
_CLOSED_PIPE = 141  # 128 + SIGPIPE, what a shell shows for a program that the signal ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; failures that are expected end in one message on stderr."""
    parser = make_parser()
    options = parser.parse_args(argv)
    command = getattr(options, "command", None)
    if command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        code = _COMMANDS[command](options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has left (`| head`). Python flushes again at exit: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE
    except ConfigError as error:
        return _fail(str(error), 2)
    except (SidecarError, ValueError) as error:
        return _fail(f"sidecar: {error}", 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"sidecar: {where}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("sidecar: interrupted", 1)
    return code


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code
