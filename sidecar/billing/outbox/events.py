"""Which meters are reported, and under which names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sidecar.core.policy import Meter


@dataclass(frozen=True, slots=True)
class Events:
    """Meter to event name. ``added``: the payee adds events up; ``hourly``: it keeps an hour's newest total."""

    added: Mapping[str, str] = field(default_factory=dict)
    hourly: Mapping[str, str] = field(default_factory=dict)


def events_of(meters: Iterable[Meter]) -> Events:
    """Of the policies' meters."""
    named = [(meter, meter.stripe_event) for meter in meters if meter.stripe_event is not None]
    return Events(
        added={meter.name: event for meter, event in named if meter.stripe_window == "none"},
        hourly={meter.name: event for meter, event in named if meter.stripe_window == "hour"},
    )
