"""Builds the package. With ``SIDECAR_COMPILE=1`` the modules that every request passes are compiled by mypyc.

Pure Python is the source of truth and what is installed without that variable; both pass the same tests
(`make test-compiled`). Compiling needs mypy (in the ``dev`` extra), a C compiler and Python's headers. See
docs/decisions/0007-compiled-lane.md.
"""

import os

from setuptools import setup

HOT = (
    *(f"core/{name}" for name in ("ids", "money", "records", "windows")),
    *(f"http1/{name}" for name in ("paths", "reply", "request", "writing")),
    *(
        f"gateway/{name}"
        for name in ("accounts", "call", "client", "exchange", "forwarding", "intake", "relay", "routes", "rules")
    ),
    *(f"upstream/{name}" for name in ("breaker", "connection", "pool")),
    *(f"admission/{name}" for name in ("buckets", "gate", "quotas")),
    *(f"ledger/{name}" for name in ("journal", "segment", "tail")),
    *(f"metering/{name}" for name in ("cost", "histogram", "meters", "tally")),
    *(f"identity/{name}" for name in ("cache", "finder", "resolver")),
)


def extensions() -> list[object]:
    if os.environ.get("SIDECAR_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    modules: list[object] = mypycify(
        ["--config-file=", "--ignore-missing-imports", *(f"sidecar/{name}.py" for name in HOT)], opt_level="3"
    )
    return modules


setup(ext_modules=extensions())
