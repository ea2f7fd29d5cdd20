"""Latency histograms of plain integers, cheap enough for every call; the buckets are those of ``core.latency``."""

from sidecar.core.latency import BUCKETS, bucket_index


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
