"""What every process does to the interpreter, and to the allocator under it, before it serves."""

import ctypes
import gc
import logging
import sys
from typing import Final

_SWITCH_S = 0.0005
_GC_ALLOCATIONS = 20_000
_TRIM_THRESHOLD: Final = -1  # parameters of mallopt(3)
_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 16 * 1024**2
_HEAP_BYTES: Final = 32 * 1024**2  # the most that glibc takes


def begin(name: str) -> None:
    """Logs to stderr as ``name``."""
    # The shipper's thread gives the interpreter back within this time when a request waits for it.
    sys.setswitchinterval(_SWITCH_S)
    _keep_freed_memory()
    form = f"%(asctime)s %(levelname)s {name}: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)


def settle() -> None:
    """What is there now lives as long as the process: the collector need not look at it again. Requests make no cycles
    that matter, so it looks rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_ALLOCATIONS, 20, 50)


def _keep_freed_memory() -> None:
    """Up to 16 MiB that is free at the heap's end stays with the process. By default glibc keeps 128 KiB, and the texts
    of a batch for the ledger, which come and go several times a second, were faulted in anew each time: 35 pages in a
    thousand calls. Other allocators stay as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _HEAP_BYTES)  # which setting the other one keeps from growing by itself
