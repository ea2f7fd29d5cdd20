"""What may cross the link between parent and workers: these values, and the policy snapshot from the parent alone.

A snapshot is pickled: it goes from the parent to a process that the parent itself has just started, never back.
"""

import inspect
import pickle
from types import ModuleType
from typing import cast

from sidecar.admission import Readings as AdmissionReadings
from sidecar.app.readings import LaneReadings
from sidecar.core import accounts, billing, budgets, crossings, leases, origin, ports, values
from sidecar.core.policy import Quota, Snapshot
from sidecar.gateway import LaneReading
from sidecar.ledger import JournalReadings, ShipperReadings
from sidecar.metering import Histogram, RouteReading, SeriesReading, TallyReading
from sidecar.storage import Wire
from sidecar.upstream import TargetReading


def _classes(module: ModuleType) -> list[type]:
    return [cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__]


def _histogram(counts: list[int], sum_us: int) -> Histogram:
    made = Histogram()
    made.counts, made.sum_us = counts, sum_us
    return made


WIRE = Wire(
    [
        *_classes(leases),
        *_classes(budgets),
        *_classes(values),
        *_classes(origin),
        *_classes(crossings),
        Quota,
        accounts.Account,
        billing.Period,
        ports.Position,
        LaneReadings,
        LaneReading,
        AdmissionReadings,
        JournalReadings,
        ShipperReadings,
        TallyReading,
        SeriesReading,
        RouteReading,
        TargetReading,
    ],
    {Histogram: (lambda histogram: (histogram.counts, histogram.sum_us), _histogram)},
)


def packed(snapshot: Snapshot) -> bytes:
    return pickle.dumps(snapshot)


def unpacked(data: bytes) -> Snapshot:
    """Of ``packed``, from this process's own parent."""
    return cast(Snapshot, pickle.loads(data))  # noqa: S301 - see the module's docstring
