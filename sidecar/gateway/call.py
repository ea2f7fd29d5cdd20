"""The accounting of one call: its id and its times, the intent, the usage record, and what was held for it."""

from typing import TYPE_CHECKING

from sidecar.admission import Ticket
from sidecar.core.records import encode_done, encode_intent, text_fragment
from sidecar.gateway.accounts import Passage
from sidecar.gateway.rules import Rules
from sidecar.http1 import RequestHead

if TYPE_CHECKING:
    from sidecar.gateway.lane import Lane

_METHODS = {
    name: text_fragment(name.decode())
    for name in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE")
}
_NOTHING: dict[str, int] = {}


class Call:
    """One call. Times are monotonic nanoseconds; ``bytes_in`` and ``bytes_out`` count body bytes.

    ``intend`` comes before the first byte upstream, ``record`` before the last byte to the client, once; ``give_back``
    is for a call that never went upstream.
    """

    # No slots here and below: the class holds the defaults that most calls keep, so that few attributes are written.
    bytes_in: int = 0
    bytes_out: int = 0
    status: int = 0
    intended: bool = False
    passage: Passage | None = None
    ticket: Ticket | None = None
    _token: int | None = None
    _sent_ns: int = 0
    _first_ns: int = 0

    def __init__(self, lane: "Lane", rules: Rules, head: RequestHead) -> None:
        wall_ns = lane.wall_ns()
        self._lane = lane
        self._rules = rules
        self.head = head
        self._started_ns = lane.monotonic_ns()
        self._wall_us = wall_ns // 1_000
        self.event_id = lane.ids.next(wall_ns)

    def intend(self) -> None:
        """Journals the intent, once. JournalFull: nothing was written, and nothing may be forwarded."""
        passage = self.passage
        assert passage is not None
        if self.intended:
            return
        method = self.head.method
        self._token = self._lane.journal.begin(
            encode_intent(
                self.event_id,
                self._wall_us,
                passage.principal,
                passage.route_fragment,
                _METHODS.get(method) or text_fragment(method.decode("latin-1")),
            )
        )
        self.intended = True
        passage.load.in_flight += 1

    def intend_unbilled(self) -> None:
        """The journal is full and the policy says to serve without a record."""
        assert self.passage is not None
        self.intended = True
        self._lane.unbilled += 1
        self.passage.load.in_flight += 1

    def cost_lines(self) -> bytes:
        """X-Request-Latency and X-Compute-Cost as the route wishes, from what is known when the head goes out."""
        assert self.passage is not None
        route, now, lines = self.passage.route, self._lane.monotonic_ns(), b""
        if route.announce_latency:
            lines = b"X-Request-Latency: %.3fms\r\n" % ((now - self._started_ns) / 1e6)
        if route.announce_cost:
            costs = self._rules.costs
            micros = costs.cost((now - self._sent_ns) // 1_000, self.bytes_in, self.bytes_out)
            lines += b"X-Compute-Cost: %d.%06d %b\r\n" % (*divmod(micros, 1_000_000), costs.currency.encode())
        return lines

    def record(self, outcome: bytes, *, charge: bool = True) -> None:
        """Journals the usage record, counts it, and settles what was held. ``charge`` False: no units, no meters."""
        passage, ticket = self.passage, self.ticket
        if passage is None or ticket is None or not self.intended:
            return
        self.passage = None
        now, sent = self._lane.monotonic_ns(), self._sent_ns
        total_us = (now - self._started_ns) // 1_000
        upstream_us = (now - sent) // 1_000
        status, bytes_in, bytes_out, units = self.status, self.bytes_in, self.bytes_out, ticket.units
        if charge:
            values, meters = passage.meters.charge(status, units, bytes_in, bytes_out, upstream_us)
        else:
            units, values, meters = 0, _NOTHING, b"{}"
        cost = self._rules.costs.cost(upstream_us, bytes_in, bytes_out)
        if self._token is not None:
            method = self.head.method
            self._lane.journal.end(
                self._token,
                encode_done(
                    self.event_id,
                    self._wall_us,
                    passage.principal,
                    passage.route_fragment,
                    _METHODS.get(method) or text_fragment(method.decode("latin-1")),
                    status,
                    outcome,
                    units,
                    cost,
                    bytes_in,
                    bytes_out,
                    total_us,
                    upstream_us,
                    (self._first_ns - sent) // 1_000 if self._first_ns else 0,
                    meters,
                ),
            )
        passage.load.in_flight -= 1
        passage.tally(status).add(units, cost, bytes_in, bytes_out, total_us, upstream_us)
        ticket.settle(values)

    def give_back(self) -> None:
        """Returns what is held for a call that was not forwarded."""
        if self.ticket is not None and not self.intended:
            self.ticket.release()
            self.ticket = None
