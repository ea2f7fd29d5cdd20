"""The second half of the journey: the upstream's reply on its way to the client, or to nobody when it has gone."""

import logging
from typing import TYPE_CHECKING, Final

from sidecar.core.errors import JournalFull, UpstreamError
from sidecar.core.problems import Problem
from sidecar.gateway.accounts import Account
from sidecar.gateway.call import Call
from sidecar.gateway.refusals import upstream_problem
from sidecar.gateway.rules import RoutePlan, Rules
from sidecar.gateway.tunnel import Tunnel
from sidecar.http1 import ReplyHead, RequestHead, chunk, head_bytes, problem_reply
from sidecar.identity import Found
from sidecar.upstream import TargetPool, UpstreamConnection

if TYPE_CHECKING:
    from sidecar.gateway.client import ClientConnection
    from sidecar.gateway.lane import Lane

# The body of a refused request is read and forgotten up to this many bytes, so that the connection can be kept.
_FORGET_BYTES = 64 * 1024
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})  # RFC 9110, 9.2.2
OPEN: Final = 0
HANDED: Final = 1
SENT: Final = 2
OVER: Final = 3
SYNCING: Final = 4
TUNNEL: Final = 5
_log = logging.getLogger(__name__)


class Relay(Call):
    """A call's reply; the upstream connection's ReplySink.

    ``phase``: OPEN until the head goes upstream, SENT until the last byte is written, then OVER; HANDED is aiohttp's;
    SYNCING: recorded, and the last bytes wait for the journal's fsync. TUNNEL: from the upstream's 101 to the end of
    the WebSocket; then OVER.
    ``until_ns`` (monotonic, 0 for never) is when the reply must be complete; a retry does not move it.
    ``drain_until_ns`` (monotonic) bounds the reading of a reply for a client that has gone.
    """

    phase: int = 0
    close: bool = False
    upload_done: bool = False
    gone: bool = False
    plan: RoutePlan | None = None
    connection: UpstreamConnection | None = None
    target: TargetPool | None = None
    found: Found | None = None
    account: Account | None = None
    drain_until_ns: int = 0
    until_ns: int = 0
    _replied: bool = False
    _retried: bool = False
    _chunk_reply: bool = False
    _left_at: int = 0  # how much of the reply was read when its client went

    def __init__(self, lane: "Lane", rules: Rules, client: "ClientConnection", head: RequestHead) -> None:
        super().__init__(lane, rules, head)
        self._client = client
        if head.close:
            self.close = True

    def forward(self, *, fresh: bool) -> None:
        """Sends the request upstream; ``fresh``: on a new connection."""
        raise AssertionError("the exchange forwards")

    # ReplySink

    def interim(self, status: int, lines: bytes) -> None:
        """103 and its like are passed on (RFC 9110, 15.2)."""
        if self.head.version == b"1.1" and not self.gone:
            self._lane.turn.write(self._client.transport, head_bytes(status, lines))

    def reply(self, head: ReplyHead, body: list[bytes], done: bool, trailers: bytes) -> None:
        """The reply's head, and what came with it of the body."""
        assert self.target is not None
        self.target.answered(head.status)
        self.status = head.status
        self.first_ns = self._lane.monotonic_ns()
        self._replied = True
        if head.private:
            self.reported = self._rules.costs.reported(head.private)
        if self.plan is not None and self.plan.watches:
            self._watch(head)
        for piece in body:
            self.bytes_out += len(piece)
        if self.watch is not None:
            self._look(body, done, trailers)
        if self.gone:
            self._drained(done)
            return
        if not self.upload_done:
            self.close = True  # an early reply: what is still on its way is not read as a request
        lines = self._reply_lines(head)
        if not done:
            pieces = map(chunk, body) if self._chunk_reply else body
            self._lane.turn.write(self._client.transport, b"".join((lines, *pieces)))
        elif self._chunk_reply:
            self._finish(b"".join((lines, *map(chunk, body), b"0\r\n", trailers, b"\r\n")))
        else:
            self._finish(b"".join((lines, *body)))

    def body_out(self, body: list[bytes], done: bool, trailers: bytes) -> None:
        """More of the reply's body."""
        for piece in body:
            self.bytes_out += len(piece)
        if self.watch is not None:
            self._look(body, done, trailers)
        if self.gone:
            self._drained(done)
            return
        data = body[0] if len(body) == 1 and not self._chunk_reply else b"".join(self._framed(body))
        if not done:
            self._lane.turn.write(self._client.transport, data)
        else:
            self._finish(data + b"0\r\n" + trailers + b"\r\n" if self._chunk_reply else data)

    def switched(self, head: ReplyHead, early: bytes) -> None:
        """101: from here on both connections belong to the tunnel."""
        connection, target, plan, ticket = self.connection, self.target, self.plan, self.ticket
        assert connection is not None and target is not None and plan is not None and ticket is not None
        target.answered(head.status)
        self.connection = None
        self.status = head.status
        self.first_ns = self._lane.monotonic_ns()
        self._replied = True
        if head.private:
            self.reported = self._rules.costs.reported(head.private)
        self.phase = TUNNEL
        block = head.block if plan.reply_edits is None else plan.reply_edits.apply(head.block)
        lines = b"%b%bX-Request-ID: %b\r\n" % (block, ticket.headers, self.event_id)
        if plan.announce:
            lines += self.cost_lines()
        Tunnel(self._lane, self, self._client, connection, plan).begin(
            head_bytes(101, lines, b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), early
        )

    def tunnel_over(self) -> bool:
        """Records the call at the tunnel's end, whoever ended it; False when the journal failed."""
        self.phase = OVER
        self.record(b"ok")
        return self._lane.turn.settle() and self.segment == 0

    def failed(self, error: UpstreamError, *, replayable: bool) -> None:
        """The upstream's side ended without a whole reply."""
        connection, self.connection = self.connection, None
        if self.gone:
            self.record(
                b"upstream_failed", charge=False
            )  # as if the client had stayed: what is not whole is not charged
            self.phase = OVER
            self._lane.abandoned.discard(self)
            if self.target is not None:
                self.target.failed(error.kind, connection)
            return
        if replayable and self._may_retry():
            # A kept-alive connection that died unread is a race, not a failure (RFC 9110, 9.2.2): the same usage event.
            self._retried = True
            self.phase = OPEN
            if self.target is not None:
                self.target.let_go(connection)  # the retry may be the probe
            self.forward(fresh=True)
            return
        if self.target is not None:
            self.target.failed(error.kind, connection)
        self.upstream_failed(error)

    def _may_retry(self) -> bool:
        if self._retried or self.plan is None or self.head.method not in _IDEMPOTENT or self.head.has_body:
            return False
        return self.plan.pool.may_retry()

    def pause_body(self) -> None:
        """The target is slow to take the request's body."""
        self._client.pause_body()

    def resume_body(self) -> None:
        """The target takes more."""
        self._client.resume_body()

    # The client reads slowly, or goes away

    def pause_reply(self) -> None:
        """The client reads slower than the upstream writes."""
        if self.connection is not None:
            self.connection.pause()

    def resume_reply(self) -> None:
        """The client reads on."""
        if self.connection is not None:
            self.connection.resume()

    def client_gone(self) -> None:
        """The client closed its connection."""
        self.gone = True
        plan = self.plan
        if self.phase == OPEN:
            self.phase = OVER
            self.give_back()
            if self._lane.access is not None:
                self.note(b"client_gone", (self._lane.monotonic_ns() - self._started_ns) // 1_000, 0)
        elif self.phase == SENT and plan is not None:
            # A WebSocket that was asked for and has not begun has nothing to be read to its end.
            if plan.drain and self.upload_done and self.connection is not None and not self.head.websocket:
                self.drain_until_ns = self._lane.monotonic_ns() + self._rules.bounds.drain_timeout_ns
                self._left_at = self.bytes_out
                self._lane.abandoned.add(self)
                self.connection.resume()
            else:
                self.abandon(charge=plan.route.on_disconnect != "cancel")

    def stop_draining(self) -> None:
        """The time for reading on without a client is over; what was read is charged."""
        self._lane.abandoned.discard(self)
        self.abandon(charge=True)

    def abandon(self, *, charge: bool) -> None:
        """Ends the upstream's side and records the call."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()
        if self.target is not None:
            self.target.let_go(connection)
        self.record(b"client_gone", charge=charge)
        self.phase = OVER

    # Refusals

    def upstream_failed(self, error: UpstreamError) -> None:
        """No whole reply will come."""
        if self._replied:
            # The head is out: only a torn connection tells the client that the body is not whole (RFC 9112, 8).
            self.record(b"upstream_failed", charge=False)
            self.phase = OVER
            self._client.transport.abort()
            return
        self.refuse(upstream_problem(error))

    def stop(self, refusal: Problem) -> None:
        """Ends the call in the middle of the request's body: the upstream must not take it for whole."""
        if self.phase == SYNCING:
            return
        if self.phase == OVER:
            self._client.finished(self, close=True)  # it was refused, and the rest of its body does not come
            return
        if self.phase == SENT:
            if not self._replied:
                self.status = refusal.status
            self.abandon(charge=False)
        if self._replied:
            self._client.transport.abort()
        else:
            self.close = True  # what was still to come of the body would be read as a request
            self.refuse(refusal)

    def refuse(self, refusal: Problem) -> None:
        """Answers with a problem document."""
        self.give_back()
        self.status = refusal.status
        self.code = refusal.code
        if self.intended and self.passage is not None:
            self.record(b"upstream_failed", charge=False)
        elif self._lane.access is not None:
            self.note(b"refused", (self._lane.monotonic_ns() - self._started_ns) // 1_000, 0)
        lane, head = self._lane, self.head
        lane.tallies.refuse(None if self.plan is None else self.plan.route.name, refusal.code)
        if self.gone:
            self.phase = OVER
            return
        self._judge_rest()
        cors = self._rules.cors if self.plan is None else self.plan.cors
        answer = problem_reply(
            refusal,
            event_id=self.event_id,
            date=lane.date_line(),
            head_request=head.method == b"HEAD",
            close=self.close,
            lines=b"" if cors is None else cors.reply_lines(head.field(b"origin")),  # scripts may read why
        )
        self._say(answer)

    def answer(self, lines: bytes) -> None:
        """Answers 204 in the upstream's place: nothing was decided, forwarded or recorded."""
        self._judge_rest()
        lines += b"X-Request-ID: %b\r\n" % self.event_id
        self._say(head_bytes(204, self._lane.date_line(), lines, b"Connection: close\r\n" if self.close else b""))

    def _judge_rest(self) -> None:
        """The connection is kept when the rest of a request that was not forwarded is small."""
        head = self.head
        small = head.length is not None and head.length <= _FORGET_BYTES and not head.expects
        if self._lane.closing or not (self.upload_done or small):
            self.close = True

    def _say(self, answer: bytes) -> None:
        """The whole reply, made here."""
        self.phase = OVER
        self._lane.turn.write(self._client.transport, answer)
        if self.upload_done or self.close:
            self._client.finished(self, close=self.close)
        else:
            self._client.resume_body()  # the rest is read and forgotten; the end of the body ends the exchange

    def _reply_lines(self, head: ReplyHead) -> bytes:
        plan, ticket = self.plan, self.ticket
        assert plan is not None and ticket is not None
        if plan.reply_edits is None:
            lines = b"%b%bX-Request-ID: %b\r\n" % (head.block, ticket.headers, self.event_id)
        else:
            block = plan.reply_edits.apply(head.block)
            cors = b"" if plan.cors is None else plan.cors.reply_lines(self.head.field(b"origin"))
            lines = b"%b%b%bX-Request-ID: %b\r\n" % (block, cors, ticket.headers, self.event_id)
        if not head.dated:
            lines += self._lane.date_line()
        if plan.announce:
            lines += self.cost_lines()
        if head.length is not None:
            lines += b"Content-Length: %d\r\n" % head.length
        elif (head.chunked or head.to_eof) and self.head.method != b"HEAD":
            if self.head.version == b"1.1":
                self._chunk_reply = True
                lines += b"Transfer-Encoding: chunked\r\n"
            else:
                self.close = True
        if self.close or self._lane.closing:
            self.close = True
            lines += b"Connection: close\r\n"
        return head_bytes(head.status, lines)

    def _framed(self, body: list[bytes]) -> list[bytes]:
        return [chunk(piece) for piece in body] if self._chunk_reply else body

    def _finish(self, last: bytes) -> None:
        self.connection = None  # it may belong to somebody else: a full buffer must not pause it
        self.record(b"ok")
        self.phase = OVER
        if self._lane.switches.sync:
            self.phase = SYNCING
            self._lane.spawn(self._finish_synced(last))
        else:
            self._lane.turn.write(self._client.transport, last)
            self._client.finished(self, close=self.close)

    async def _finish_synced(self, last: bytes) -> None:
        kept = await self.synced()
        self.phase = OVER
        if self.gone:
            return
        if not kept:
            self._client.transport.abort()
        else:
            self._lane.turn.write(self._client.transport, last)
            self._client.finished(self, close=self.close)

    async def synced(self) -> bool:
        """Waits until the record is on the disk; False when the disk does not keep it."""
        journal = self._lane.journal
        try:
            if journal is not None:
                await journal.synced()
        except JournalFull as error:
            _log.error("call %s ends without its reply: %s", self.event_id.decode(), error)
            return False
        return self.segment == 0

    def unwritten(self) -> None:
        """Nothing is served that is not written down."""
        _log.error("call %s is not in the journal, and ends without its reply", self.event_id.decode())
        self._client.transport.abort()

    def _watch(self, head: ReplyHead) -> None:
        assert self.passage is not None
        block = head.block
        if head.private:
            block += b"".join(b"%b: %b\r\n" % field for field in head.private)
        self.watch = self.passage.meters.watch(head.status, block)

    def _look(self, body: list[bytes], done: bool, trailers: bytes) -> None:
        watch = self.watch
        assert watch is not None
        try:
            for piece in body:
                watch.body(piece)
            if done:
                watch.end(trailers)
        except Exception:  # a fault of ours, on foreign bytes: the reply goes on, and its meters are anomalies
            _log.exception("call %s is not watched to its end", self.event_id.decode())
            self.watch = None

    def _drained(self, done: bool) -> None:
        if done:
            self.connection = None
            self._lane.abandoned.discard(self)
            self.record(b"client_gone")
            self.phase = OVER
        elif self.bytes_out - self._left_at > self._rules.bounds.max_drain:
            self.stop_draining()
