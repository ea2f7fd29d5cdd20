"""Latency in log-linear buckets of microseconds, for histograms that are cheap to add to and to store.

Each power of two is cut into four (two mantissa bits), as in HdrHistogram and Prometheus's native histograms. A bucket
is 25 % of its lower bound wide, so a value read as its bucket's middle is wrong by at most 12.5 %. Below 8 us every
microsecond has its own bucket. 124 buckets reach 2^32 us, which is 71 minutes; what took longer counts as that.
"""

from collections.abc import Mapping
from typing import Final

BUCKETS = 124
MAX_US: Final = (1 << 32) - 1


def bucket_index(us: int) -> int:
    """The bucket of a value in [0, MAX_US]."""
    shift = us.bit_length() - 3
    return (shift << 2) + (us >> shift) if shift > 0 else us


def bucket_upper_us(index: int) -> int:
    """The first microsecond beyond the bucket."""
    if index < 8:
        return index + 1
    shift = (index >> 2) - 1
    return ((index & 3) + 5) << shift


def quantile_us(counts: Mapping[int, int], part: float) -> int | None:
    """The ``part`` quantile (0 to 1) of bucket counts, read as the middle of its bucket: at most 12.5 % wrong. None
    when nothing was counted."""
    total = sum(counts.values())
    if not total:
        return None
    rank, seen = max(1, -(-total * part // 1)), 0
    for index in sorted(counts):
        seen += counts[index]
        if seen >= rank:
            break
    lower = bucket_upper_us(index - 1) if index else 0
    return (lower + bucket_upper_us(index) - 1) // 2 if index >= 8 else index
