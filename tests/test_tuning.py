"""What a process does to its allocator before it serves."""

import platform
import subprocess
import sys

import pytest

_CYCLES = """
import resource
from sidecar.serve import tuning
tuning.begin("test")
def cycle():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    texts = [b"x" * size for size in (4_000, 100_000, 300_000) for _ in range(20)]
    del texts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
cycle()
print(max(cycle() for _ in range(5)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_memory_that_was_freed_is_not_faulted_in_again() -> None:
    """Its 8 MB are 2,000 pages."""
    done = subprocess.run([sys.executable, "-c", _CYCLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100
