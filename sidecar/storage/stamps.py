"""Stamps and identifiers of the outbox's rows, which must not depend on the adapter: rows are moved between them."""

import hashlib

from sidecar.core.billing import Window

# How long before a minute the calls that ended in it are looked for, one after the other until they are all there.
REACHES_US = (300_000_000, 3_600_000_000, 86_400_000_000)
MINUTE_US = 60_000_000


def free_minutes(window: Window) -> dict[int, list[tuple[int, int]]]:
    """The window's minutes that are free in part, to these parts."""
    found: dict[int, list[tuple[int, int]]] = {}
    for since_us, until_us in window.free:
        found.setdefault(since_us // MINUTE_US, []).append((since_us, until_us))
    return found


def half_hour(window: Window) -> int:
    """The minute in which every total of an hourly window is stamped."""
    return window.begin // 60 * 60 + 30


def stretches(window: Window, floor: int) -> list[tuple[int, int]]:
    """Where a window's stamp is looked for, in this order: [begin, end) in Unix minutes, none of them empty."""
    stamps = window.period.stamps
    first = max(stamps.start, floor)
    found = [(max(window.begin, first), stamps.stop), (first, min(window.begin, stamps.stop))]
    return [(begin, end) for begin, end in found if begin < end]


def identifier(instance: str, event_name: str, customer: str, minute: int, version: int) -> str:
    event = hashlib.sha256(event_name.encode()).hexdigest()[:8]
    return f"{instance}:{event}:{customer}:{minute}" + (f":v{version}" if version else "")
