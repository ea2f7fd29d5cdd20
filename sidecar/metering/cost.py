"""What serving a call costs us, exactly: integers over one common denominator, rounded once."""

import re
from fractions import Fraction
from math import lcm
from typing import Final

from sidecar.core.money import MICROS, round_div
from sidecar.core.policy import Costs

_US_PER_MS: Final = 1_000
_US_PER_S: Final = 1_000_000
_GIB: Final = 2**30
# Bounds of what an upstream may report; what is beyond them is a mistake in its units. 32 TiB is more than any machine
# has; a million units of the currency are 10^12 micro-units, of which the ledger's 63-bit sums hold nine million.
MAX_MEMORY: Final = 2**45  # bytes
MAX_EXTERNAL: Final = 1_000_000  # units of the currency
_PICOS: Final = 10**12  # per unit of the currency: the twelve decimal places that an amount may have
_WHOLE: Final = re.compile(rb"[0-9]{1,18}")
_DECIMAL: Final = re.compile(rb"([0-9]{1,15})(?:\.([0-9]{1,12}))?")


class Reported:
    """What one reply said about its cost: ``memory`` in bytes, ``external`` in millionths of a micro-unit (10^-12 of
    the currency's unit). ``faults``: why a value was not taken, ``memory_malformed`` and the like; at most one each."""

    __slots__ = ("external", "faults", "memory")

    def __init__(self, memory: int, external: int, faults: tuple[str, ...]) -> None:
        self.memory = memory
        self.external = external
        self.faults = faults


class CostModel:
    """The cost of a call in micro-units of ``currency``, from the rates of ``costs:``.

    ``private``: the reply fields, in lower case, that are read here and do not go to the client.
    """

    __slots__ = (
        "_call",
        "_denominator",
        "_external",
        "_external_name",
        "_free",
        "_in",
        "_memory",
        "_memory_name",
        "_out",
        "_time",
        "currency",
        "private",
    )

    def __init__(self, costs: Costs) -> None:
        self.currency = costs.currency
        self._memory_name = (costs.memory_header or "").encode()
        self._external_name = (costs.external_header or "").encode()
        self.private: frozenset[bytes] = frozenset(name for name in (self._memory_name, self._external_name) if name)
        rates = (
            costs.per_ms * MICROS / _US_PER_MS,
            costs.per_gib_in * MICROS / _GIB,
            costs.per_gib_out * MICROS / _GIB,
            Fraction(costs.per_call) * MICROS,
            costs.per_gib_s * MICROS / _GIB / _US_PER_S if self._memory_name else Fraction(0),
            Fraction(MICROS, _PICOS) if self._external_name else Fraction(0),
        )
        self._denominator = lcm(*(rate.denominator for rate in rates))
        self._time, self._in, self._out, self._call, self._memory, self._external = (
            rate.numerator * (self._denominator // rate.denominator) for rate in rates
        )
        self._free = not any(rates)

    def reported(self, fields: list[tuple[bytes, bytes]]) -> Reported | None:
        """What the reply's ``fields`` say, None when they say nothing. A value that is malformed, repeated or beyond
        its bound counts as nothing and stands in ``faults``."""
        if not self.private:
            return None
        memory: bytes | None = None
        external: bytes | None = None
        faults: list[str] = []
        for name, value in fields:
            low = name.lower()
            if low not in self.private:
                continue
            if low == self._memory_name:
                if memory is not None:
                    faults.append("memory_repeated")
                memory = value.strip()
            else:
                if external is not None:
                    faults.append("external_repeated")
                external = value.strip()
        if memory is None and external is None:
            return None
        if faults:
            memory = None if "memory_repeated" in faults else memory
            external = None if "external_repeated" in faults else external
        return Reported(_memory(memory, faults), _external(external, faults), tuple(dict.fromkeys(faults)))

    def cost(self, upstream_us: int, bytes_in: int, bytes_out: int, reported: Reported | None = None) -> int:
        """Micro-units for one call: upstream time in microseconds, body bytes both ways. Rounded half to even."""
        if self._free:
            return 0
        numerator = self._time * upstream_us + self._in * bytes_in + self._out * bytes_out + self._call
        if reported is not None:
            numerator += self._memory * reported.memory * upstream_us + self._external * reported.external
        return round_div(numerator, self._denominator)


def _memory(text: bytes | None, faults: list[str]) -> int:
    if text is None:
        return 0
    if _WHOLE.fullmatch(text) is None:
        faults.append("memory_malformed")
        return 0
    value = int(text)
    if value > MAX_MEMORY:
        faults.append("memory_too_large")
        return 0
    return value


def _external(text: bytes | None, faults: list[str]) -> int:
    if text is None:
        return 0
    match = _DECIMAL.fullmatch(text)
    if match is None:
        faults.append("external_malformed")
        return 0
    places = match[2] or b""
    value = int(match[1]) * _PICOS + int(places.ljust(12, b"0"))
    if value > MAX_EXTERNAL * _PICOS:
        faults.append("external_too_large")
        return 0
    return value
