"""What every process does to the interpreter before it serves."""

import gc
import logging
import sys

_SWITCH_S = 0.0005
_GC_ALLOCATIONS = 20_000


def begin(name: str) -> None:
    """Logs to stderr as ``name``."""
    # The shipper's thread gives the interpreter back within this time when a request waits for it.
    sys.setswitchinterval(_SWITCH_S)
    form = f"%(asctime)s %(levelname)s {name}: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)


def settle() -> None:
    """What is there now lives as long as the process: the collector need not look at it again. Requests make no cycles
    that matter, so it looks rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_ALLOCATIONS, 20, 50)
