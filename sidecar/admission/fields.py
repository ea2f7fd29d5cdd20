"""The ``RateLimit-Policy`` and ``RateLimit`` fields (draft-ietf-httpapi-ratelimit-headers-11), as structured fields
(RFC 9651): lists of strings with integer parameters.

``q`` is the limit, ``w`` the window or the period in seconds, ``r`` what remains, ``t`` the seconds until some of what
is used comes back (up to W/60 early for a window); seconds are rounded up. Concurrency limits have the quota unit
``concurrent-requests`` and neither ``w`` nor ``t``.
"""

from collections.abc import Sequence
from typing import Final

from librt.strings import BytesWriter

from sidecar.core.clock import NS_PER_S
from sidecar.core.digits import put
from sidecar.core.policy import Concurrency, Limit, Quota

_NUMBER: Final = "\0"  # where one goes; no name holds it, see _string
_MAX_INTEGER = 999_999_999_999_999  # RFC 9651, 3.3.1


class Announcement:
    """Both field lines of one gate, each ended by CRLF; empty when there is no policy."""

    __slots__ = ("_begin", "_literals")

    def __init__(self, limits: Sequence[Limit], concurrency: Sequence[Concurrency], quotas: Sequence[Quota]) -> None:
        policy = [f"{_string(x.name)};q={_integer(x.limit)};w={-(-x.window_ns // NS_PER_S)}" for x in limits]
        policy += [f'{_string(x.name)};q={_integer(x.limit)};qu="concurrent-requests"' for x in concurrency]
        policy += [f"{_string(x.name)};q={_integer(x.limit)};w={_NUMBER}" for x in quotas]
        now = [f"{_string(x.name)};r={_NUMBER};t={_NUMBER}" for x in limits]
        now += [f"{_string(x.name)};r={_NUMBER}" for x in concurrency]
        now += [f"{_string(x.name)};r={_NUMBER};t={_NUMBER}" for x in quotas]
        text = f"RateLimit-Policy: {', '.join(policy)}\r\nRateLimit: {', '.join(now)}\r\n" if policy else ""
        self._begin, *self._literals = text.encode("ascii").split(_NUMBER.encode())

    def filled(self, values: list[int]) -> bytes:
        """``values``, none below 0: each quota's ``w``; each limit's ``r`` and ``t``; each concurrency's ``r``; each
        quota's ``r`` and ``t``."""
        writer = BytesWriter()
        writer.write(self._begin)
        for i, literal in enumerate(self._literals):
            put(writer, values[i])
            writer.write(literal)
        return writer.getvalue()


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
