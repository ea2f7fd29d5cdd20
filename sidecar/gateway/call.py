"""The accounting of one call: its id and its times, the intent, the usage record, and what was held for it."""

import logging
from typing import TYPE_CHECKING, Final

from sidecar.admission import Ticket
from sidecar.core.records import (
    DONE,
    INTENT,
    PROGRESS,
    call_head,
    marked,
    meters_fragment,
    record_of,
    text_fragment,
)
from sidecar.gateway.accounts import Passage
from sidecar.gateway.rules import Rules
from sidecar.http1 import RequestHead
from sidecar.metering import Reported, Watch

if TYPE_CHECKING:
    from sidecar.gateway.lane import Lane

_METHODS: Final = {
    name: text_fragment(name.decode())
    for name in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE")
}
_NOTHING: dict[str, int] = {}
_COST: Final = "_cost"  # where what the upstream said about the cost was not understood; no meter's name
_UNKNOWN: Final = b"indeterminate"
_log = logging.getLogger(__name__)


class Call:
    """One call. Times are monotonic nanoseconds; ``bytes_in`` and ``bytes_out`` count body bytes, or all bytes of a
    tunnel, ``messages`` its WebSocket messages. ``code``: of the problem document it is answered with.

    ``intend`` comes before the first byte upstream, ``record`` before the last byte to the client, once; ``give_back``
    is for a call that never went upstream. ``watch`` looks at the reply for the meters; ``reported`` is what the
    upstream said about the cost.
    """

    # No slots here and below: the class holds the defaults that most calls keep, so that few attributes are written.
    bytes_in: int = 0
    bytes_out: int = 0
    messages: int = 0
    status: int = 0
    code: str = ""
    intended: bool = False
    passage: Passage | None = None
    ticket: Ticket | None = None
    watch: Watch | None = None
    reported: Reported | None = None
    first_ns: int = 0
    _marked_ns: int = 0
    _token: int = 0  # the journal's; calls count from 1
    _head: bytes = b""
    _sent_ns: int = 0

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
        journal = self._lane.journal
        if journal is not None:
            self._token = journal.begin(self._intent(passage))
        self._lane.turn.await_keep()
        self.intended = True
        passage.load.in_flight += 1

    def _intent(self, passage: Passage) -> bytes:
        method = self.head.method
        fragment = _METHODS.get(method) or text_fragment(method.decode("latin-1"))
        self._head = call_head(self.event_id, self._wall_us, passage.caller, fragment)
        if passage.assumed is None:
            return self._head
        assert self.ticket is not None
        cost = self._rules.costs.cost(0, 0, 0)
        return self._encoded(passage, INTENT, _UNKNOWN, self.ticket.units, cost, 0, 0, passage.assumed)

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
            micros = costs.cost((now - self._sent_ns) // 1_000, self.bytes_in, self.bytes_out, self.reported)
            lines += b"X-Compute-Cost: %d.%06d %b\r\n" % (*divmod(micros, 1_000_000), costs.currency.encode())
        return lines

    def record(self, outcome: bytes, *, charge: bool = True) -> bool:
        """Journals the usage record, counts it, and settles what was held. ``charge`` False: no units, no meters.

        False when the journal failed: then the client must not get the end of the reply.
        """
        passage, ticket = self.passage, self.ticket
        if passage is None or ticket is None or not self.intended:
            return True
        self.passage = None
        now, sent = self._lane.monotonic_ns(), self._sent_ns
        total_us = (now - self._started_ns) // 1_000
        upstream_us = (now - sent) // 1_000
        units, recorded = ticket.units, True
        if charge:
            values, meters = self._charged(passage, units, upstream_us)
        else:
            units, values, meters = 0, _NOTHING, b"{}"
        if ticket.marks:
            meters = marked(meters, ticket.marks)
        cost = self._rules.costs.cost(upstream_us, self.bytes_in, self.bytes_out, self.reported)
        journal = self._lane.journal
        if self._token and journal is not None:
            try:
                done = self._encoded(passage, DONE, outcome, units, cost, total_us, upstream_us, meters)
                journal.end(self._token, done)
            except Exception:
                _log.exception("call %s is not in the journal", self.event_id.decode())
                recorded = False
        self._lane.turn.await_keep()
        passage.load.in_flight -= 1
        passage.tally(self.status).add(units, cost, self.bytes_in, self.bytes_out, total_us, upstream_us)
        ticket.settle(values)
        if charge and self.watch is not None and not self._bodiless:
            for meter, reason in self.watch.anomalies:
                self._lane.tallies.anomaly(meter, reason)
        if self.reported is not None:
            for reason in self.reported.faults:
                self._lane.tallies.anomaly(_COST, reason)
        if self._lane.access is not None:
            self.note(outcome, total_us, upstream_us)
        return recorded

    def note(self, outcome: bytes, total_us: int, upstream_us: int) -> None:
        """Tells the access log, where there is one, how the call ended."""
        raise AssertionError("the exchange knows who called")

    def mark(self, due_ns: int) -> None:
        """Journals how far a call is that takes long, unless the last mark, or the reply, is younger than ``due_ns``.

        Where the journal has no room, the next mark will say it.
        """
        passage, ticket, journal = self.passage, self.ticket, self._lane.journal
        if self.status == 0 or self.first_ns > due_ns or self._marked_ns > due_ns:
            return
        if passage is None or ticket is None or journal is None or not self._token:
            return
        now = self._marked_ns = self._lane.monotonic_ns()
        upstream_us = (now - self._sent_ns) // 1_000
        _, meters = self._charged(passage, ticket.units, upstream_us)
        cost = self._rules.costs.cost(upstream_us, self.bytes_in, self.bytes_out, self.reported)
        total_us = (now - self._started_ns) // 1_000
        record = self._encoded(passage, PROGRESS, _UNKNOWN, ticket.units, cost, total_us, upstream_us, meters)
        journal.progress(self._token, record)

    @property
    def _bodiless(self) -> bool:
        """A reply that cannot hold what its meters look for (RFC 9110, 6.4.1): that is no anomaly."""
        return self.status in (101, 304) or self.head.method == b"HEAD"

    def _charged(self, passage: Passage, units: int, upstream_us: int) -> tuple[dict[str, int], bytes]:
        status, watch = self.status, self.watch
        if watch is None and status != 101:
            return passage.meters.charge(status, units, self.bytes_in, self.bytes_out, upstream_us)
        took, gave = self.bytes_in, self.bytes_out
        values, meters = passage.meters.charge(status, units, took, gave, upstream_us, watch, self.messages)
        if status == 101:
            # A WebSocket that came about is a success too: what counts 2xx counts it beside what counts 1xx.
            values = passage.meters.charge(200, units, took, gave, upstream_us)[0] | values
        return values, meters_fragment(values) if self._bodiless else meters

    def _encoded(
        self,
        passage: Passage,
        kind: bytes,
        outcome: bytes,
        units: int,
        cost: int,
        total_us: int,
        upstream_us: int,
        meters: bytes,
    ) -> bytes:
        return record_of(
            self._head,
            passage.outcome.text(self.status, outcome, units),
            cost,
            self.bytes_in,
            self.bytes_out,
            total_us,
            upstream_us,
            (self.first_ns - self._sent_ns) // 1_000 if self.first_ns else 0,
            meters,
            kind,
        )

    def give_back(self) -> None:
        """Returns what is held for a call that was not forwarded."""
        if self.ticket is not None and not self.intended:
            self.ticket.release()
            self.ticket = None
