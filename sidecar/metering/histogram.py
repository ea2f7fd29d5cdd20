"""Latency histograms of plain integers, cheap enough for every call.

Log-linear buckets of microseconds: each power of two is cut into four (two mantissa bits), as in HdrHistogram and
Prometheus's native histograms. A bucket is 25 % of its lower bound wide, so a value read as its bucket's middle is
wrong by at most 12.5 %. Below 8 us every microsecond has its own bucket. 124 buckets reach 2^32 us, which is 71
minutes; what took longer counts as that.
"""

BUCKETS = 124
MAX_US = (1 << 32) - 1


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


class Histogram:
    """Counts per bucket and the sum of all values, in microseconds. 124 integers: about 1 KiB, at most 5 KiB."""

    __slots__ = ("counts", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.sum_us = 0

    def copy(self) -> "Histogram":
        """The histogram as it is now."""
        copied = Histogram()
        copied.counts = self.counts.copy()
        copied.sum_us = self.sum_us
        return copied

    def cumulative(self, bounds_us: tuple[int, ...]) -> list[int]:
        """How many values lie below each bound, then how many there are. Bounds ascend and are bucket bounds."""
        result, running, index = [], 0, 0
        for bound in bounds_us:
            end = bucket_index(bound)
            running += sum(self.counts[index:end])
            result.append(running)
            index = end
        result.append(running + sum(self.counts[index:]))
        return result
