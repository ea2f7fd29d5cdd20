"""The fields of a reply that a sender goes by."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from sidecar.core.clock import NS_PER_S

MOST_RETRY_S = 3600  # a longer wait is not believed


def server_time(headers: Mapping[str, str]) -> int | None:
    """The peer's clock by its ``Date``, in Unix seconds; None when it says none that can be read."""
    return _moment(headers.get("Date", ""))


def retry_after(headers: Mapping[str, str]) -> int:
    """Nanoseconds to wait by ``Retry-After``, seconds or a date (by the peer's own clock); 0: it says nothing."""
    written = headers.get("Retry-After", "").strip()
    if written.isascii() and written.isdigit():
        return min(int(written[:10]), MOST_RETRY_S) * NS_PER_S
    moment, now = _moment(written), server_time(headers)
    if moment is None or now is None:
        return 0
    return min(max(0, moment - now), MOST_RETRY_S) * NS_PER_S


def _moment(written: str) -> int | None:
    try:
        return int(parsedate_to_datetime(written).timestamp())
    except (ValueError, OverflowError):
        return None
