"""Writes usage down so that it cannot be lost: the journal on the hot path, the shipper that moves it to the ledger."""

from sidecar.ledger.entry import Entry
from sidecar.ledger.factory import done_extra
from sidecar.ledger.folder import is_free
from sidecar.ledger.journal import Journal
from sidecar.ledger.readings import JournalReadings, ShipperReadings
from sidecar.ledger.shipper import Retention, Shipper

__all__ = ["Entry", "Journal", "JournalReadings", "Retention", "Shipper", "ShipperReadings", "done_extra", "is_free"]
