"""How long the ledger keeps what: the coarser the sums, the longer."""

from itertools import pairwise

from sidecar.config.reading import Reading
from sidecar.core.policy import Settings, Snapshot
from sidecar.core.units import format_duration_ns

_KEPT = (("raw_events_ns", "keep_events"), ("minute_sums_ns", "keep_minutes"), ("hour_sums_ns", "keep_hours"))


def check(snapshot: Snapshot, reading: Reading) -> None:
    settings = snapshot.settings
    for (finer, fine), (coarser, coarse) in pairwise(_KEPT):
        if getattr(settings, finer) > getattr(settings, coarser):
            _blame(settings, (finer, fine), (coarser, coarse), reading)


def _blame(settings: Settings, finer: tuple[str, str], coarser: tuple[str, str], reading: Reading) -> None:
    message = (
        f"{finer[1]} ({format_duration_ns(getattr(settings, finer[0]))}) is longer than {coarser[1]} "
        f"({format_duration_ns(getattr(settings, coarser[0]))}), whose sums stand for it later; write a shorter one"
    )
    reading.blame(settings, finer[0], message)
