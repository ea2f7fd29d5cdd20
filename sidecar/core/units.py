"""Durations, sizes, counts and amounts as people write them: every one carries its unit."""

import re
from fractions import Fraction

from sidecar.core.money import CURRENCIES, Money

_DURATION_NS = {
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_SIZE = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_NUMBER_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_AMOUNT = re.compile(r"(-?\d{1,15}(?:_\d{3})*(?:\.\d{1,12})?)\s+([A-Z]{3})")


def parse_duration_ns(text: str) -> int:
    """``"250ms"``, ``"1m"``, ``"1.5h"``, ``"90d"`` to nanoseconds. ValueError says what to write."""
    return _scaled(text, _DURATION_NS, "a duration", "500ms, 30s, 1m, 24h or 90d")


def parse_size(text: str) -> int:
    """``"10MiB"``, ``"64KiB"``, ``"1GB"`` to bytes. ValueError says what to write."""
    return _scaled(text, _SIZE, "a size", "512B, 64KiB or 10MiB")


def parse_money(text: str) -> Money:
    """``"0.50 USD"`` to an exact amount. ValueError says what to write."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{text!r} is not an amount of money; write it with its currency, such as "0.50 USD"')
    if match[2] not in CURRENCIES:
        raise ValueError(f"{match[2]!r} is not a known ISO 4217 currency; write one such as USD or EUR")
    return Money(Fraction(match[1].replace("_", "")), match[2])


def format_duration_ns(ns: int) -> str:
    """The shortest exact text: 60_000_000_000 is ``1m``. Sub-microsecond remainders are written as ``us`` decimals."""
    if ns == 0:
        return "0s"
    for unit in ("w", "d", "h", "m", "s", "ms", "us"):
        if ns % _DURATION_NS[unit] == 0:
            return f"{ns // _DURATION_NS[unit]}{unit}"
    return f"{ns / 1000}us"


def format_size(size: int) -> str:
    """The shortest exact binary text: 10485760 is ``10MiB``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE[unit] == 0:
            return f"{size // _SIZE[unit]}{unit}"
    return f"{size}B"


def _scaled(text: str, units: dict[str, int], what: str, examples: str) -> int:
    match = _NUMBER_UNIT.fullmatch(text.strip())
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not {what}; write a number with its unit, such as {examples}")
    exact = Fraction(match[1]) * units[match[2]]
    if exact.denominator != 1:
        raise ValueError(f"{text!r} is finer than can be kept; write {examples}")
    return int(exact)
