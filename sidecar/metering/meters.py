"""Meters of a route, compiled once per snapshot: which values a reply of some status class adds to which meter.

A refused call is never metered (Kong/developer.konghq.com#6691); a meter counts the status classes its ``statuses``
name, 2xx and 3xx unless the policy says otherwise.
"""

import json

from sidecar.core.policy import Meter, Route, Snapshot
from sidecar.core.records import meters_fragment

_US_PER_MS = 1_000
_CLASSES = 6  # 0 for no reply, then 1xx to 5xx
# The order in which `charge` lists what it measured, after the constant 1.
_SOURCES = {"requests": 0, "units": 1, "bytes_in": 2, "bytes_out": 3, "upstream_ms": 4}
_CONSTANT = frozenset({"requests", "units"})


class _Class:
    """The meters of one route for one status class."""

    __slots__ = ("constant", "names", "sources", "template")

    def __init__(self, meters: list[Meter], units: int) -> None:
        self.names = tuple(meter.name for meter in meters)
        self.sources = tuple(_SOURCES[meter.count] for meter in meters)
        # The same text as core.records.meters_fragment writes, with the values left open.
        members = ",".join(f"{json.dumps(name).replace('%', '%%')}:%d" for name in self.names)
        self.template = f"{{{members}}}".encode()
        self.constant: tuple[dict[str, int], bytes] | None = None
        if all(meter.count in _CONSTANT for meter in meters):
            values = {meter.name: 1 if meter.count == "requests" else units for meter in meters}
            self.constant = values, meters_fragment(values)


class RouteMeters:
    """What calls of one route add to the meters."""

    __slots__ = ("_classes", "_units")

    def __init__(self, route: Route, meters: list[Meter]) -> None:
        ours = [meter for meter in meters if meter.routes is None or route.name in meter.routes]
        self._units = route.units
        self._classes = tuple(
            _Class([meter for meter in ours if status in meter.statuses], route.units) for status in range(_CLASSES)
        )

    def charge(
        self, status: int, units: int, bytes_in: int, bytes_out: int, upstream_us: int
    ) -> tuple[dict[str, int], bytes]:
        """The values that a reply of ``status`` adds, by meter name, and the same as a record's fragment.

        ``status`` is 0 when there was no reply; ``upstream_us`` counts as started milliseconds. Statuses outside
        100 to 599 count for nothing. The dict may be shared between calls: read it, never change it.
        """
        compiled = self._classes[status // 100] if 0 <= status < 600 else self._classes[0]
        if compiled.constant is not None and units == self._units:
            return compiled.constant
        measured = (1, units, bytes_in, bytes_out, -(-upstream_us // _US_PER_MS))
        values = tuple([measured[source] for source in compiled.sources])
        return dict(zip(compiled.names, values, strict=True)), compiled.template % values


def compile_meters(snapshot: Snapshot) -> dict[str, RouteMeters]:
    """The meters of every route of the snapshot, by route name."""
    meters = list(snapshot.meters.values())
    return {route.name: RouteMeters(route, meters) for route in snapshot.routes}
