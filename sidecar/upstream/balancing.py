"""Who gets the next request: power of two choices, weighted. Pure; chance is an argument.

Two different targets are drawn, each with a chance in proportion to its weight, and the one with fewer requests
outstanding per weight gets it; where that is equal, the one that was drawn first. Idle targets so share by weight, busy
ones by how fast they are, and nobody looks at all of them (Mitzenmacher, The Power of Two Choices, 2001).
"""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

Draw = Callable[[int], int]  # a number in [0, n), every one as likely


class Lots:
    """Draws one or two positions out of weighted ones. ``weights`` are positive and at least one."""

    __slots__ = ("_ends", "_total", "weights")

    def __init__(self, weights: list[int]) -> None:
        self.weights = weights
        self._ends = list(accumulate(weights))
        self._total = self._ends[-1]

    def pair(self, draw: Draw) -> tuple[int, int]:
        """Two positions, different ones where there are two."""
        first = bisect_right(self._ends, draw(self._total))
        own = self.weights[first]
        rest = self._total - own
        if rest == 0:
            return first, first
        at = draw(rest)
        if at >= self._ends[first] - own:
            at += own  # over the first one's share
        return first, bisect_right(self._ends, at)


def is_lighter(load: int, weight: int, other_load: int, other_weight: int) -> bool:
    """Whether ``load`` requests are fewer per ``weight`` than the other's."""
    return load * other_weight < other_load * weight
