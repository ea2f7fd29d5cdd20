"""What a call took: the meters it counts for, what it cost us, what a month of it is priced at, and its histograms.

Everything here is synchronous arithmetic on integers. The hot path calls ``RouteMeters.charge``, ``CostModel.cost``
and ``Tally.add``; the scrape reads what they left behind.
"""

from sidecar.metering.cost import CostModel
from sidecar.metering.histogram import Histogram, bucket_index, bucket_upper_us
from sidecar.metering.meters import RouteMeters, compile_meters
from sidecar.metering.price import price_of
from sidecar.metering.tally import NO_ROUTE, OTHER, RouteTally, Tallies, Tally, TallyReading

__all__ = [
    "NO_ROUTE",
    "OTHER",
    "CostModel",
    "Histogram",
    "RouteMeters",
    "RouteTally",
    "Tallies",
    "Tally",
    "TallyReading",
    "bucket_index",
    "bucket_upper_us",
    "compile_meters",
    "price_of",
]
