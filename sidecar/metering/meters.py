"""Meters of a route, compiled once per snapshot: which values a reply of some status class adds to which meter.

A refused call is never metered (Kong/developer.konghq.com#6691); a meter counts the status classes its ``statuses``
name, 2xx and 3xx unless the policy says otherwise, and looks at no other reply.
"""

import json
from typing import Final

from sidecar.core.policy import Meter, Route, Snapshot
from sidecar.core.records import ANOMALY, meters_fragment
from sidecar.metering.extracts import Reader
from sidecar.metering.values import NONE
from sidecar.metering.watch import Watch

_US_PER_MS: Final = 1_000
_US_PER_S: Final = 1_000_000
_CLASSES: Final = 6  # 0 for no reply, then 1xx to 5xx
# The order in which `charge` lists what it measured, after the constant 1.
_SOURCES: Final = {
    "requests": 0,
    "units": 1,
    "bytes_in": 2,
    "bytes_out": 3,
    "upstream_ms": 4,
    "connection_s": 5,
    "messages": 6,
}
_REPLY: Final = -1  # the source of a meter that reads the reply
_CONSTANT: Final = frozenset({"requests", "units"})


class _Class:
    """The meters of one route for one status class."""

    __slots__ = ("constant", "names", "readers", "sources", "template")

    def __init__(self, meters: list[Meter], units: int) -> None:
        self.names = tuple(meter.name for meter in meters)
        self.sources = tuple(_REPLY if meter.extract else _SOURCES[meter.count] for meter in meters)
        self.readers = tuple(Reader(meter, meter.extract) for meter in meters if meter.extract)
        # The same text as core.records.meters_fragment writes, with the values left open.
        members = ",".join(f"{json.dumps(name).replace('%', '%%')}:%d" for name in self.names)
        self.template = f"{{{members}}}".encode()
        self.constant: tuple[dict[str, int], bytes] | None = None
        if all(meter.count in _CONSTANT for meter in meters):
            values = {meter.name: 1 if meter.count == "requests" else units for meter in meters}
            self.constant = values, meters_fragment(values)

    def with_reply(self, measured: tuple[int, ...], watch: Watch | None) -> tuple[dict[str, int], bytes]:
        """As RouteMeters.charge, for a class that has ``readers``."""
        if watch is not None and watch.readers is self.readers:
            read = watch.values()
            anomalies = {name for name, _ in watch.anomalies}
        else:
            read = [NONE] * len(self.readers)
            anomalies = {reader.name for reader in self.readers}
        values: dict[str, int] = {}
        written: dict[str, int] = {}
        place = 0
        for name, source in zip(self.names, self.sources, strict=True):
            if source >= 0:
                values[name] = written[name] = measured[source]
                continue
            value = read[place]
            place += 1
            if value >= 0:
                values[name] = written[name] = value
            if name in anomalies:
                written[name + ANOMALY] = 1
        return values, meters_fragment(written)


class RouteMeters:
    """What calls of one route add to the meters. ``counts_messages``: whether any of them counts WebSocket messages."""

    __slots__ = ("_classes", "_units", "counts_messages")

    def __init__(self, route: Route, meters: list[Meter]) -> None:
        ours = [meter for meter in meters if meter.routes is None or route.name in meter.routes]
        self._units = route.units
        self.counts_messages: bool = any(meter.count == "messages" for meter in ours)
        self._classes = tuple(
            _Class([meter for meter in ours if status in meter.statuses], route.units) for status in range(_CLASSES)
        )

    def watch(self, status: int, block: bytes) -> Watch | None:
        """What looks at a reply of ``status`` with these field lines as its body passes; None when no meter does."""
        compiled = self._classes[status // 100] if 0 <= status < 600 else self._classes[0]
        return Watch(compiled.readers, block) if compiled.readers else None

    def charge(
        self,
        status: int,
        units: int,
        bytes_in: int,
        bytes_out: int,
        upstream_us: int,
        watch: Watch | None = None,
        messages: int = 0,
    ) -> tuple[dict[str, int], bytes]:
        """The values that a reply of ``status`` adds, by meter name, and the same as a record's fragment.

        ``status`` is 0 when there was no reply; ``upstream_us`` counts as started milliseconds and started seconds.
        Statuses outside 100 to 599 count for nothing. ``watch`` is what looked at this reply, which may still be under
        way: then what is known so far counts. The fragment alone holds the anomalies; without a watch every meter that
        reads the reply is one. The dict may be shared between calls: read it, never change it.
        """
        compiled = self._classes[status // 100] if 0 <= status < 600 else self._classes[0]
        if compiled.constant is not None and units == self._units:
            return compiled.constant
        measured = (
            1,
            units,
            bytes_in,
            bytes_out,
            -(-upstream_us // _US_PER_MS),
            -(-upstream_us // _US_PER_S),
            messages,
        )
        if compiled.readers:
            return compiled.with_reply(measured, watch)
        values = tuple([measured[source] for source in compiled.sources])
        return dict(zip(compiled.names, values, strict=True)), compiled.template % values


def compile_meters(snapshot: Snapshot) -> dict[str, RouteMeters]:
    """The meters of every route of the snapshot, by route name."""
    meters = list(snapshot.meters.values())
    return {route.name: RouteMeters(route, meters) for route in snapshot.routes}
