"""The ``RateLimit-Policy`` and ``RateLimit`` fields (draft-ietf-httpapi-ratelimit-headers-11), as structured fields
(RFC 9651): lists of strings with integer parameters.

``q`` is the limit, ``w`` the window or the period in seconds, ``r`` what remains, ``t`` the seconds until some of what
is used comes back (up to W/60 early for a window); seconds are rounded up. Concurrency limits have the quota unit
``concurrent-requests`` and neither ``w`` nor ``t``.
"""

from collections.abc import Sequence
from typing import Final

from sidecar.core.clock import NS_PER_S
from sidecar.core.digits import HUNDRED, PADDED, PLAIN
from sidecar.core.policy import Concurrency, Limit, Quota

_PLAIN: Final = PLAIN
_PADDED: Final = PADDED
_NUMBER: Final = "\0"  # where one goes; no name holds it, see _string
_MAX_INTEGER = 999_999_999_999_999  # RFC 9651, 3.3.1


class Announcement:
    """Both field lines of one gate, each ended by CRLF; empty when there is no policy.

    Formatting seven numbers takes as long as deciding about them, and from one reply to the next most digits stay: only
    numbers that changed are written anew, and their hundreds only where these did.
    """

    __slots__ = ("_hundreds", "_last", "_literals", "_pieces", "_texts")

    def __init__(self, limits: Sequence[Limit], concurrency: Sequence[Concurrency], quotas: Sequence[Quota]) -> None:
        policy = [f"{_string(x.name)};q={_integer(x.limit)};w={-(-x.window_ns // NS_PER_S)}" for x in limits]
        policy += [f'{_string(x.name)};q={_integer(x.limit)};qu="concurrent-requests"' for x in concurrency]
        policy += [f"{_string(x.name)};q={_integer(x.limit)};w={_NUMBER}" for x in quotas]
        now = [f"{_string(x.name)};r={_NUMBER};t={_NUMBER}" for x in limits]
        now += [f"{_string(x.name)};r={_NUMBER}" for x in concurrency]
        now += [f"{_string(x.name)};r={_NUMBER};t={_NUMBER}" for x in quotas]
        text = f"RateLimit-Policy: {', '.join(policy)}\r\nRateLimit: {', '.join(now)}\r\n" if policy else ""
        self._literals = text.encode("ascii").split(_NUMBER.encode())
        places = len(self._literals) - 1
        self._last = [0] * places
        self._hundreds = [0] * places
        self._texts = [b""] * places  # of the hundreds, empty where there are none
        self._pieces = [self._literals[0]] + [_PLAIN[0] + literal for literal in self._literals[1:]]

    def filled(self, values: list[int]) -> bytes:
        """``values``, none below 0: each quota's ``w``; each limit's ``r`` and ``t``; each concurrency's ``r``; each
        quota's ``r`` and ``t``."""
        last = self._last
        for i in range(len(last)):
            value = values[i]
            if value != last[i]:
                last[i] = value
                hundreds = value // HUNDRED
                if hundreds != self._hundreds[i]:
                    self._hundreds[i] = hundreds
                    self._texts[i] = b"%d" % hundreds if hundreds else b""
                rest = value % HUNDRED
                digits = _PADDED[rest] if hundreds else _PLAIN[rest]
                self._pieces[i + 1] = b"%b%b%b" % (self._texts[i], digits, self._literals[i + 1])
        return b"".join(self._pieces)


def pairs(lines: bytes) -> tuple[tuple[str, str], ...]:
    """Complete field lines as name and value."""
    fields = (line.partition(": ") for line in lines.decode("ascii").split("\r\n") if line)
    return tuple((name, value) for name, _, value in fields)


def _integer(value: int) -> int:
    return min(value, _MAX_INTEGER)


def _string(text: str) -> str:
    """A structured-field string; what it cannot hold becomes ``?``."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
