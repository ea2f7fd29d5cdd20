"""What serving a call costs us, exactly: integers over one common denominator, rounded once."""

from fractions import Fraction
from math import lcm

from sidecar.core.money import MICROS, round_div
from sidecar.core.policy import Costs

_US_PER_MS = 1_000
_GIB = 2**30


class CostModel:
    """The cost of a call in micro-units of ``currency``, from the rates of ``costs:``."""

    __slots__ = ("_call", "_denominator", "_free", "_in", "_out", "_time", "currency")

    def __init__(self, costs: Costs) -> None:
        self.currency = costs.currency
        rates = (
            costs.per_ms * MICROS / _US_PER_MS,
            costs.per_gib_in * MICROS / _GIB,
            costs.per_gib_out * MICROS / _GIB,
            Fraction(costs.per_call) * MICROS,
        )
        self._denominator = lcm(*(rate.denominator for rate in rates))
        self._time, self._in, self._out, self._call = (
            rate.numerator * (self._denominator // rate.denominator) for rate in rates
        )
        self._free = not any(rates)

    def cost(self, upstream_us: int, bytes_in: int, bytes_out: int) -> int:
        """Micro-units for one call: upstream time in microseconds, body bytes both ways. Rounded half to even."""
        if self._free:
            return 0
        numerator = self._time * upstream_us + self._in * bytes_in + self._out * bytes_out + self._call
        return round_div(numerator, self._denominator)
