"""The accounting of one call: its id and its times, the intent, the usage record, and what was held for it."""

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i32, i64

from sidecar.admission import Ticket
from sidecar.core.records import (
    DONE,
    ID_BYTES,
    INTENT,
    PROGRESS,
    marked,
    meters_fragment,
    put_id,
    put_record,
)
from sidecar.gateway.accounts import Passage
from sidecar.gateway.rules import Rules
from sidecar.http1 import RequestHead
from sidecar.ledger import Entry
from sidecar.metering import Reported, Watch

if TYPE_CHECKING:
    from sidecar.gateway.lane import Lane

_NOTHING: dict[str, int] = {}
_COST: Final = "_cost"  # where what the upstream said about the cost was not understood; no meter's name
_UNKNOWN: Final = b"indeterminate"


class Call(Entry):
    """One call. Times are monotonic nanoseconds; ``bytes_in`` and ``bytes_out`` count body bytes, or all bytes of a
    tunnel, ``messages`` its WebSocket messages. ``code``: of the problem document it is answered with.

    ``intend`` comes before the first byte upstream, ``record`` before the last byte to the client, once. What they
    leave here is written at the end of the turn, before any of these bytes is sent. ``give_back`` is for a call that
    never went upstream. ``watch`` looks at the reply for the meters; ``reported`` is what the upstream said about the
    cost.
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
    first_ns: i64 = 0  # machine words, which compiled code divides by a multiplication
    _marked_ns: i64 = 0
    _sent_ns: i64 = 0
    _caller: bytes = b""
    _assumed: bytes | None = None  # the intent of a call that is billed where its end is never known
    _outcome: bytes = b""  # and what else its done record says
    _cost: int = 0
    _took: i64 = 0  # of the moment of ``record``: the rest of a request's body may come after it
    _gave: i64 = 0
    _total_us: i64 = 0
    _upstream_us: i64 = 0
    _meters: bytes = b""

    def __init__(self, lane: "Lane", rules: Rules, head: RequestHead) -> None:
        wall_ns = lane.wall_ns()
        self._lane = lane
        self._rules = rules
        self.head = head
        self._started_ns: i64 = lane.monotonic_ns()
        self._wall_us: i64 = wall_ns // 1_000
        self.event_id = lane.ids.next(wall_ns)

    def intend(self) -> None:
        """Journals the intent, once. JournalFull: nothing is written, and nothing may be forwarded."""
        passage = self.passage
        assert passage is not None
        if self.intended:
            return
        journal = self._lane.journal
        if journal is not None:
            self._caller = passage.caller.text(self.head.method)
            if passage.assumed is None:
                journal.begin(self, ID_BYTES + len(self._caller))
            else:
                assert self.ticket is not None
                cost = self._rules.costs.cost(0, 0, 0)
                self._assumed = self._text(passage, INTENT, self.ticket.units, cost, 0, 0, passage.assumed)
                journal.begin(self, len(self._assumed))
        self._lane.turn.await_keep()
        self.intended = True
        passage.load.in_flight += 1

    def put_intent(self, writer: BytesWriter, said: bytes) -> bytes:
        """As ``Entry`` says: who is calling."""
        if self._assumed is not None:
            writer.write(self._assumed)
            return b""
        put_id(writer, self.event_id)
        if said is not self._caller:
            writer.write(self._caller)
        return self._caller

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
            took_ns: int = now - self._started_ns  # a machine word is not divided by a float
            lines = b"X-Request-Latency: %.3fms\r\n" % (took_ns / 1e6)
        if route.announce_cost:
            costs = self._rules.costs
            micros = costs.cost((now - self._sent_ns) // 1_000, self.bytes_in, self.bytes_out, self.reported)
            lines += b"X-Compute-Cost: %d.%06d %b\r\n" % (*divmod(micros, 1_000_000), costs.currency.encode())
        return lines

    def record(self, outcome: bytes, *, charge: bool = True) -> None:
        """Journals the usage record, counts it, and settles what was held. ``charge`` False: no units, no meters."""
        passage, ticket = self.passage, self.ticket
        if passage is None or ticket is None or not self.intended:
            return
        self.passage = None
        now: i64 = self._lane.monotonic_ns()
        total_us = (now - self._started_ns) // 1_000
        upstream_us = (now - self._sent_ns) // 1_000
        units = ticket.units
        if charge:
            values, meters = self._charged(passage, units, upstream_us)
        else:
            units, values, meters = 0, _NOTHING, b"{}"
        if ticket.marks:
            meters = marked(meters, ticket.marks)
        cost = self._rules.costs.cost(upstream_us, self.bytes_in, self.bytes_out, self.reported)
        journal = self._lane.journal
        if self.segment and journal is not None:
            self._outcome, self._cost = passage.outcome.text(self._caller, self.status, outcome, units), cost
            self._took, self._gave = self.bytes_in, self.bytes_out
            self._total_us, self._upstream_us, self._meters = total_us, upstream_us, meters
            journal.end(self)
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

    def put_done(self, writer: BytesWriter) -> None:
        """As ``Entry`` says."""
        put_record(
            writer,
            DONE,
            self.event_id,
            self._wall_us,
            self._outcome,
            self._cost,
            self._took,
            self._gave,
            self._total_us,
            self._upstream_us,
            self._first_us(),
            self._meters,
        )

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
        if passage is None or ticket is None or journal is None or self.segment <= 0:
            return
        now = self._marked_ns = self._lane.monotonic_ns()
        upstream_us = (now - self._sent_ns) // 1_000
        _, meters = self._charged(passage, ticket.units, upstream_us)
        cost = self._rules.costs.cost(upstream_us, self.bytes_in, self.bytes_out, self.reported)
        total_us = (now - self._started_ns) // 1_000
        journal.progress(self, self._text(passage, PROGRESS, ticket.units, cost, total_us, upstream_us, meters))

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

    def _first_us(self) -> i64:
        if self.first_ns == 0:
            return 0
        return (self.first_ns - self._sent_ns) // 1_000

    def _text(
        self, passage: Passage, kind: i32, units: int, cost: int, total_us: int, upstream_us: int, meters: bytes
    ) -> bytes:
        """A record of what the call counts as, should its end never be written."""
        writer = BytesWriter()
        put_record(
            writer,
            kind,
            self.event_id,
            self._wall_us,
            passage.outcome.text(self._caller, self.status, _UNKNOWN, units),
            cost,
            self.bytes_in,
            self.bytes_out,
            total_us,
            upstream_us,
            self._first_us(),
            meters,
        )
        return writer.getvalue()

    def give_back(self) -> None:
        """Returns what is held for a call that was not forwarded."""
        if self.ticket is not None and not self.intended:
            self.ticket.release()
            self.ticket = None
