"""What may cross the link between parent and workers: these values, and the policy snapshot from the parent alone.

A snapshot is pickled: it goes from the parent to a process that the parent itself has just started, never back.
"""

import inspect
import pickle
from fractions import Fraction
from types import ModuleType
from typing import cast

from sidecar.admission import Readings as AdmissionReadings
from sidecar.app.readings import LaneReadings
from sidecar.core import accounts, billing, budgets, credits, crossings, leases, origin, ports, purses, values
from sidecar.core.batches import Batch
from sidecar.core.money import Money
from sidecar.core.policy import Quota, Snapshot
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


def _money(numerator: int, denominator: int, currency: str) -> Money:
    return Money(Fraction(numerator, denominator), currency)


WIRE = Wire(
    [
        *_classes(leases),
        *_classes(budgets),
        *_classes(purses),
        *_classes(values),
        *_classes(origin),
        *_classes(crossings),
        Quota,
        accounts.Account,
        credits.Book,
        credits.Grant,
        credits.Share,
        billing.Period,
        ports.Position,
        LaneReadings,
        AdmissionReadings,
        JournalReadings,
        ShipperReadings,
        TallyReading,
        SeriesReading,
        RouteReading,
        TargetReading,
    ],
    {
        Batch: (lambda batch: (batch.blocks,), Batch),
        Histogram: (lambda histogram: (histogram.counts, histogram.sum_us), _histogram),
        Money: (lambda money: (money.amount.numerator, money.amount.denominator, money.currency), _money),
    },
)


def packed(snapshot: Snapshot) -> bytes:
    return pickle.dumps(snapshot)


def unpacked(data: bytes) -> Snapshot:
    """Of ``packed``, from this process's own parent."""
    return cast(Snapshot, pickle.loads(data))  # noqa: S301 - see the module's docstring
