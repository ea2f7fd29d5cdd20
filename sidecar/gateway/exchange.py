"""The journey of one request, on one screen.

``start -> _identify -> _admit -> forward -> _send``, then ``reply`` and ``body_out`` in ``relay``: plain calls while
the key is cached, the budget is in process and an idle upstream connection exists. The intent is journalled before the
first byte goes upstream, the usage record before the last byte goes to the client.
"""

import logging
from collections.abc import Coroutine

from sidecar.admission import Pending, Refused, Ticket
from sidecar.core.errors import JournalFull, StoreError, Unauthenticated, UpstreamError
from sidecar.core.problems import passing_problem, problem
from sidecar.gateway.access.log import Note
from sidecar.gateway.accounts import Account, Passage
from sidecar.gateway.credentials import own_credentials, target_without_key
from sidecar.gateway.fields import FieldEdits
from sidecar.gateway.forwarding import upstream_tail
from sidecar.gateway.guards import Guard
from sidecar.gateway.handover import PREFIX
from sidecar.gateway.refusals import (
    address_problem,
    allow_line,
    body_problem,
    caller_problem,
    not_here_problem,
)
from sidecar.gateway.relay import HANDED, OPEN, OVER, SENT, SYNCING, Relay
from sidecar.gateway.rules import RoutePlan
from sidecar.http1 import Field, chunk
from sidecar.identity import Found
from sidecar.upstream import TargetPool, UpstreamConnection

# What an upstream gets after the request line, and what it was made of.
Tail = tuple[list[Field] | None, Account | None, TargetPool | None, FieldEdits | None, bytes]
_log = logging.getLogger(__name__)


class Exchange(Relay):
    """One request and its reply.

    The request's body is held (at most the connection's ``buffer``) until an upstream connection is there; from then on
    it flows, and each side's slowness pauses the other.
    """

    _held: list[bytes] | None = None
    _held_size: int = 0

    # The journey

    def start(self) -> None:
        """The exchange has its turn on the connection; what came of its body so far is held."""
        head = self.head
        plan = self._rules.recall(head.method, head.host, head.path)
        if plan is None:
            if head.path.startswith(PREFIX):
                self._hand_over()
                return
            asked = self._rules.preflight(head)
            if asked is not None:
                self._preflight(asked)
                return
            found = self._rules.find(head.method, head.host, head.path)
            if not isinstance(found, RoutePlan):
                if head.target == b"*":
                    self.answer(allow_line(set()))  # RFC 9110, 9.3.7: it asks about the server, and this is one
                else:
                    self.refuse(found or address_problem(self._rules.methods(head.host, head.path)))
                return
            plan = found
        self.plan = plan
        if plan.guard is not None and self._is_kept_out(plan.guard):
            return
        if head.vias and self._lane.pseudonym in b",".join(head.vias):
            self.refuse(problem("loop_detected", "the request came back to the proxy that sent it"))
        elif head.hops == 0:
            self._end_here()
        elif (head.length is not None and head.length > plan.max_body) or self.bytes_in > plan.max_body:
            self.refuse(body_problem(plan.max_body))
        elif plan.public:
            self._admit(self._lane.anonymous(plan))
        else:
            self._identify(plan)

    def _preflight(self, plan: RoutePlan) -> None:
        """A browser asks whether a page may call: that needs no key, and nothing is decided, counted or forwarded."""
        assert plan.cors is not None
        if plan.guard is None or not self._is_kept_out(plan.guard):
            self.answer(plan.cors.preflight_lines(self.head.field(b"origin") or b""))

    def _is_kept_out(self, guard: Guard) -> bool:
        refusal = guard.judge(self.head, self._client_ip())
        if refusal is not None:
            self.refuse(refusal)
        return refusal is not None

    def _end_here(self) -> None:
        """Max-Forwards is 0 (RFC 9110, 7.6.2): we are who was asked."""
        allow = allow_line(self._rules.methods(self.head.host, self.head.path))
        if self.head.method == b"OPTIONS":
            self.answer(allow)
        else:
            self.refuse(not_here_problem("Max-Forwards is 0, and this proxy does not send TRACE back"))

    def _identify(self, plan: RoutePlan) -> None:
        head, rules = self.head, self._rules
        found: Found | None = head.kept
        if found is None:
            try:
                found = rules.finder.find(head.api_keys, head.authorizations, head.query)
                found = found or self._client.peer.certificate
                if found is None:
                    name = rules.key_header.decode()
                    raise Unauthenticated("key_missing", f"send a key as {name}: KEY or as Authorization: Bearer KEY")
            except Unauthenticated as error:
                self.refuse(caller_problem(error))
                return
            if not rules.key_in_query and found.kind != "certificate":  # the block is shared by connections
                head.kept = found
        self.found = found
        account = self._lane.resolver.cached(found)
        if account is None:
            self._lane.spawn(self._guarded(self._resolve(found, plan)))
        else:
            self.account = account
            self._admit(account.passage(plan))

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        """A fault of ours must answer the client, not leave it waiting."""
        try:
            await work
        except Exception:
            _log.exception("request %s failed", self.event_id.decode())
            if self.phase in (OPEN, SENT):
                self.stop(problem("internal_error", "the sidecar failed; its log names this request's id"))

    async def _resolve(self, found: Found, plan: RoutePlan) -> None:
        try:
            account = await self._lane.resolver.resolve(found, self._client_ip())
        except Unauthenticated as error:
            if self.phase == OPEN:
                self.refuse(caller_problem(error))
        except StoreError:
            if self.phase == OPEN:
                self.refuse(passing_problem("store_unavailable", "the store of keys did not answer; try again"))
        else:
            self.account = account
            if self.phase == OPEN:
                self._admit(account.passage(plan))

    def _admit(self, passage: Passage) -> None:
        head = self.head
        ticket = passage.gate.admit(head.method.decode("latin-1"), self._client_ip(), head.field)
        if isinstance(ticket, Pending):
            self._lane.spawn(self._guarded(self._await_admission(passage, ticket)))
        else:
            self._admitted(passage, ticket)

    async def _await_admission(self, passage: Passage, pending: Pending) -> None:
        ticket = await pending.wait()
        if self.phase == OPEN:
            self._admitted(passage, ticket)
        elif isinstance(ticket, Ticket):
            ticket.release()

    def _admitted(self, passage: Passage, ticket: Ticket | Refused) -> None:
        if isinstance(ticket, Refused):
            self.refuse(ticket.problem)
            return
        self.passage = passage
        self.ticket = ticket
        self.forward(fresh=False)

    def forward(self, *, fresh: bool) -> None:
        """Sends the request upstream; ``fresh``: on a new connection."""
        assert self.plan is not None
        target = self.plan.pool.pick()
        connection = None if fresh or target is None else target.take()
        if connection is None:
            self._lane.spawn(self._guarded(self._connect(self.plan, target, fresh)))
        else:
            if target is not None and not target.up:
                target.probe = connection
            self.target = target
            self._send(connection)

    async def _connect(self, plan: RoutePlan, picked: TargetPool | None, fresh: bool) -> None:
        try:
            target, connection = await plan.pool.acquire(fresh=fresh, picked=picked)
        except UpstreamError as error:
            if self.phase == OPEN:
                self.upstream_failed(error)
            return
        if fresh:
            target.retried("race")
        self.target = target
        if self.phase == OPEN:
            self._send(connection)
        else:
            target.put_back(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        head, target, plan, lane = self.head, self.target, self.plan, self._lane
        assert target is not None and plan is not None
        try:
            self.intend()
        except JournalFull:
            if not lane.switches.serve_unbilled:
                target.put_back(connection)
                self.refuse(passing_problem("journal_full", "usage cannot be recorded at the moment; try again"))
                return
            self.intend_unbilled()
        self.phase = SENT
        self.connection = connection
        if head.expects and not self.upload_done and self._held is None:
            lane.turn.write(self._client.transport, b"HTTP/1.1 100 Continue\r\n\r\n")
        data = self._upstream_head(target)
        if self._held is not None:
            data += b"".join(self._held)
            self._held, self._held_size = None, 0
        if not self.upload_done:
            self._client.resume_body()  # before the sending, which may pause it again
        now = self._sent_ns = lane.monotonic_ns()
        connection.send(self, data, now, lane.turn, head_request=head.method == b"HEAD", upload_done=self.upload_done)
        if plan.total_ns:
            self.until_ns = connection.until_ns = self.until_ns or self._sent_ns + plan.total_ns
        if head.websocket:
            connection.upgrading = True

    def _upstream_head(self, target: TargetPool) -> bytes:
        head, account, client = self.head, self.account, self._client
        plan = self.plan
        assert plan is not None
        known, whose, to, edits, tail = client.last_tail
        # The same list object means the same header block, byte for byte; equal contents would not be enough to know.
        if known is not head.raw_fields or whose is not account or to is not target or edits is not plan.request_edits:
            tail = self._tail(target, plan)
            client.last_tail = (head.raw_fields, account, target, plan.request_edits, tail)
        path = target_without_key(head, self._rules) if self._rules.key_in_query else head.target
        if plan.paths is not None:
            path = plan.paths.apply(path)
        if account is not None and account.signs:
            tail = account.token_line() + tail
        return b"%b %b HTTP/1.1\r\nX-Request-ID: %b\r\n%b" % (head.method, path, self.event_id, tail)

    def _tail(self, target: TargetPool, plan: RoutePlan) -> bytes:
        head, rules, account = self.head, self._rules, self.account
        forward = head.forward
        lines = self._client.peer.lines(head) + self._client.peer.certificate_line
        if account is not None:
            lines += account.identity
        if head.api_keys or head.authorizations:
            forward += own_credentials(head, self.found, rules)
        if plan.request_edits is not None:
            forward = plan.request_edits.apply(forward)
        host = head.host if plan.preserve_host else target.authority
        via = b"%b %b" % (self._client.peer.version or head.version, self._lane.pseudonym)
        return upstream_tail(head, host=host, via=via, lines=forward + lines)

    def note(self, outcome: bytes, total_us: int, upstream_us: int) -> None:
        access, head, account, target = self._lane.access, self.head, self.account, self.target
        if access is None or not access.wants(self.status, outcome):
            return
        caller = ("", "", "")
        if account is not None:
            caller = (account.principal.tenant, account.principal.key_id, account.principal.plan)
        access.note(
            Note(
                self._wall_us,
                self.event_id,
                self._client_ip(),
                self._client.peer.version or head.version,
                head.method,
                head.host,
                head.target,
                self.status,
                outcome,
                self.code,
                "" if self.plan is None else self.plan.route.name,
                caller,
                "" if target is None else str(target.target),
                self.bytes_in,
                self.bytes_out,
                total_us,
                upstream_us,
                self._first_us(),
                head.raw_fields,
            )
        )

    def _client_ip(self) -> str:
        peer = self._client.peer
        return peer.client_ip(self.head, self._rules.trusted) if peer.trusted else peer.ip

    def _hand_over(self) -> None:
        self.phase = HANDED
        self._lane.turn.settle()  # from here on aiohttp writes
        self._client.hand_over(self)
        for piece in self._held or ():
            self._client.handed(piece, done=False)
        self._held = None
        if self.upload_done:
            self._client.handed(b"", done=True)

    # The request's body: from the client's connection

    def body(self, data: bytes) -> None:
        """A piece of the request's body, without its framing."""
        self.bytes_in += len(data)
        if self.phase in (OVER, SYNCING):
            return
        if self.phase == HANDED:
            self._client.handed(data, done=False)
            return
        if self.plan is not None and self.bytes_in > self.plan.max_body:
            self.stop(body_problem(self.plan.max_body))
            return
        framed = chunk(data) if self._chunked else data
        if self.connection is not None:
            self.connection.send_body(framed, self._lane.turn, done=False)
            return
        if self._held is None:
            self._held = []
        self._held.append(framed)
        self._held_size += len(framed)
        if self._held_size > self._rules.bounds.buffer:
            self._client.pause_body()

    def body_end(self) -> None:
        """The request is complete."""
        self.upload_done = True
        self._client.waiting_over()
        if self.phase == HANDED:
            self._client.handed(b"", done=True)
        elif self.phase == OVER:
            self._client.finished(self, close=self.close)
        elif self.phase != SYNCING:
            end = b"0\r\n\r\n" if self._chunked else b""
            if self.connection is not None:
                self.connection.send_body(end, self._lane.turn, done=True)
            elif end:
                self._held = [*(self._held or ()), end]

    @property
    def _chunked(self) -> bool:
        # What goes to aiohttp gets its chunks made by the hand-over.
        return self.head.chunked and not self.head.path.startswith(PREFIX)
