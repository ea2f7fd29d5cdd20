"""Builds the package. With ``SIDECAR_COMPILE=1`` the modules that every request passes are compiled by mypyc.

Pure Python is the source of truth and what is installed without that variable; both pass the same tests
(`make test-compiled`). Compiling needs mypy (in the ``dev`` extra), a C compiler and Python's headers. See
docs/decisions/0007-compiled-lane.md.
"""

import os

from setuptools import setup

_ROOMS = {
    "core": "budgets clock digits ids leases money periods records spend tariff turns windows",
    "http1": "chunks frames paths reply request writing",
    "gateway": "access/log accounts call client cors credentials exchange fields forwarding guards handover intake "
    "lane paths refusals relay routes rules tunnel",
    "upstream": "balancing breaker budget connection pool replies target",
    "admission": "buckets budgets compile fields gate leases places purses quotas refusals scopes shadow shared "
    "spending",
    "ledger": "entry factory journal open_calls segment shipper spares tail",
    "metering": "coding cost events extracts histogram meters tally values watch",
    "identity": "cache certificates finder resolver",
}
HOT = [f"sidecar/{room}/{module}.py" for room, modules in _ROOMS.items() for module in modules.split()]


def extensions() -> list[object]:
    if os.environ.get("SIDECAR_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    modules = mypycify(["--config-file=", "--ignore-missing-imports", *HOT], opt_level="3")
    for module in modules:  # else each call of one function by another goes through a table, and none is inlined
        module.extra_compile_args.append("-fno-semantic-interposition")
    return list[object](modules)


setup(ext_modules=extensions())
