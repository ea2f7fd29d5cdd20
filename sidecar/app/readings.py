"""What the lane says of itself: of this process, or of all workers added up."""

from collections.abc import Callable
from dataclasses import dataclass

from sidecar.admission import Readings as AdmissionReadings
from sidecar.ledger import JournalReadings, ShipperReadings
from sidecar.metering import TallyReading
from sidecar.upstream import TargetReading


@dataclass(frozen=True, slots=True)
class LaneReadings:
    """One moment of a lane."""

    tallies: TallyReading
    admission: AdmissionReadings
    journal: JournalReadings
    shipper: ShipperReadings
    upstreams: tuple[TargetReading, ...]
    connections: int
    blind: bool  # limits are decided without their store


@dataclass(frozen=True, slots=True)
class LaneSources:
    """Where they come from: each at once and without I/O."""

    tallies: Callable[[], TallyReading]
    admission: Callable[[], AdmissionReadings]
    journal: Callable[[], JournalReadings]
    shipper: Callable[[], ShipperReadings]
    upstreams: Callable[[], tuple[TargetReading, ...]]
    connections: Callable[[], int]
    blind: Callable[[], bool]

    def read(self) -> LaneReadings:
        return LaneReadings(
            self.tallies(),
            self.admission(),
            self.journal(),
            self.shipper(),
            self.upstreams(),
            self.connections(),
            self.blind(),
        )
