"""What a call took: the meters it counts for, what it cost us, what a month of it is priced at, and its histograms.

Everything here is synchronous arithmetic on integers. The hot path calls ``RouteMeters.charge``, ``CostModel.cost``
and ``Tally.add``; the scrape reads what they left behind.
"""

from sidecar.core.price import currency_of, price_of
from sidecar.metering.cost import CostModel, Reported
from sidecar.metering.earned import recognised
from sidecar.metering.histogram import Histogram
from sidecar.metering.margin import (
    Account,
    Part,
    PartUse,
    Recognised,
    RouteUse,
    apportion,
    baseline,
    format_buffer,
    metered,
    metered_micros,
    owed,
    parse_buffer,
    period_parts,
    price_floor,
    split,
)
from sidecar.metering.meters import RouteMeters, compile_meters
from sidecar.metering.spending import Burns, Use, burned, spend_state, usable
from sidecar.metering.tally import (
    NO_ROUTE,
    OTHER,
    RouteReading,
    RouteTally,
    SeriesReading,
    Tallies,
    Tally,
    TallyReading,
)
from sidecar.metering.values import MAX_VALUE
from sidecar.metering.watch import REASONS, WATCH_BYTES, Watch

__all__ = [
    "MAX_VALUE",
    "NO_ROUTE",
    "OTHER",
    "REASONS",
    "WATCH_BYTES",
    "Account",
    "Burns",
    "CostModel",
    "Histogram",
    "Part",
    "PartUse",
    "Recognised",
    "Reported",
    "RouteMeters",
    "RouteReading",
    "RouteTally",
    "RouteUse",
    "SeriesReading",
    "Tallies",
    "Tally",
    "TallyReading",
    "Use",
    "Watch",
    "apportion",
    "baseline",
    "burned",
    "compile_meters",
    "currency_of",
    "format_buffer",
    "metered",
    "metered_micros",
    "owed",
    "parse_buffer",
    "period_parts",
    "price_floor",
    "price_of",
    "recognised",
    "spend_state",
    "split",
    "usable",
]
