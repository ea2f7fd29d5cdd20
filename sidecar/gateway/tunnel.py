"""A WebSocket after its 101: bytes both ways (http.md 1.15; RFC 9110, 7.8; RFC 6455), counted and never changed.

Held: what each transport's write buffer takes before it pauses the other side. Ends when the upstream closes, when the
client's connection is lost, when both are silent for ``timeouts.tunnel``, when the caller may no longer, or at
shutdown; the usage record is journalled before the client's side is closed.
"""

import asyncio
import os
from typing import TYPE_CHECKING, Final

from sidecar.core.clock import NS_PER_S
from sidecar.core.errors import StoreError, Unauthenticated
from sidecar.core.values import AccessState
from sidecar.gateway.accounts import Account
from sidecar.gateway.rules import RoutePlan
from sidecar.http1 import MessageCounter, close_frame
from sidecar.identity import Found
from sidecar.upstream import UpstreamConnection

if TYPE_CHECKING:
    from sidecar.gateway.client import ClientConnection
    from sidecar.gateway.lane import Lane
    from sidecar.gateway.relay import Relay

_FLUSH_NS: Final = 30 * NS_PER_S  # how long the upstream may take to read the last bytes
_CHECK_NS: Final = NS_PER_S  # a caller who may no longer loses the tunnels this much later than other calls
_REST_NS: Final = 2 * NS_PER_S  # how long the rest of a frame may take, so that a close can stand behind it
_POLICY: Final = 1008  # RFC 6455, 7.4.1
_GOING_AWAY: Final = 1001
# A token only expires.
_ENDED: Final = frozenset(
    {"key_revoked", "key_expired", "key_unknown", "certificate_unknown", "certificate_expired", "tenant_unknown"}
)
_BARRED: Final = {AccessState.SUSPENDED: b"tenant_suspended", AccessState.CLOSED: b"tenant_closed"}


class Side(asyncio.Protocol):
    """One end's protocol while the tunnel stands; ``other`` is the end that its bytes go to."""

    def __init__(
        self, tunnel: "Tunnel", owner: asyncio.Protocol, transport: asyncio.Transport, *, stalled: bool
    ) -> None:
        self.transport = transport
        self.stalled = stalled  # takes no more bytes for now
        self.lost = False
        self.told = False  # a close of ours stands behind what went from here to the other side
        self.moved = False  # since the tunnel last looked
        self.size = 0  # bytes that came from here
        self.messages = 0
        self.other = self  # until begin
        self._tunnel = tunnel
        self._owner = owner
        self.frames = MessageCounter()

    def data_received(self, data: bytes) -> None:
        if self._tunnel.over:
            return
        if self._tunnel.parting:
            self._tunnel.rest_of_frame(self, data)
        else:
            self.take(data)

    def take(self, data: bytes) -> None:
        """Counts and passes on."""
        self.moved = True
        self.size += len(data)
        self.messages += self.frames.feed(data)
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._tunnel.half_closed(self)
        # TLS has no half: true would only earn a warning from asyncio.
        return not self._tunnel.over and self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._tunnel.lost()
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        self.stalled = True
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.stalled = False
        self.moved = True
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class Tunnel:
    """The two sides of one call's WebSocket. ``over``: recorded, and nothing more is passed on.

    Frames are followed, so that a close of ours never stands in the middle of one of theirs. ``parting``: the code of
    the close that both get behind the frames under way; 0 while the tunnel stands.
    """

    def __init__(
        self,
        lane: "Lane",
        call: "Relay",
        client: "ClientConnection",
        connection: UpstreamConnection,
        plan: RoutePlan,
    ) -> None:
        self.over = False
        self.parting = 0
        self._reason = b""
        self._parting_ns = 0
        self._lane = lane
        self._call = call
        self._client = client
        self._near = Side(self, client, client.transport, stalled=client.stalled)
        self._far = Side(self, connection, connection.transport, stalled=connection.stalled)
        self._near.other, self._far.other = self._far, self._near
        self._silence_ns = plan.pool.upstream.tunnel_timeout_ns
        self._rest_ns = min(plan.pool.upstream.idle_timeout_ns, self._silence_ns)
        self._since_ns = self._checked_ns = lane.monotonic_ns()

    def begin(self, head: bytes, early: bytes) -> None:
        """Takes both transports. ``head``: of the 101; ``early``: what of the upstream's bytes came with it."""
        near, far = self._near, self._far
        self._lane.turn.settle()
        self._lane.tunnels.add(self)
        sent = self._client.begin_tunnel()
        near.transport.set_protocol(near)
        far.transport.set_protocol(far)
        near.transport.write(head)
        for side, data in ((far, early), (near, sent)):
            if data:
                side.data_received(data)
        for side in (near, far):
            if side.other.stalled:
                side.transport.pause_reading()
            else:
                side.transport.resume_reading()
        if self._client.half_closed:
            self.half_closed(near)

    def half_closed(self, side: Side) -> None:
        """Nothing more comes from ``side``. A client still gets what the upstream has to say; the upstream's end is the
        tunnel's, and so is a client's where TLS cannot pass it on."""
        if side is self._near:
            self._client.half_closed = True  # its end was seen: after the tunnel there is nothing more to wait for
        if self.over:
            return
        if side is self._far or not (self._near.transport.can_write_eof() and self._far.transport.can_write_eof()):
            self.end()
        else:
            self._silence_ns = self._rest_ns
            self._far.transport.write_eof()

    def lost(self) -> None:
        """A side's connection is gone."""
        self.end()
        if self._near.lost and self._far.lost:
            self._lane.tunnel_left(self)

    def sweep(self, now_ns: int) -> None:
        """Ends what was silent for too long; looks whether the caller's key still stands."""
        near, far = self._near, self._far
        if self.over:
            if now_ns - self._since_ns >= _FLUSH_NS:
                far.transport.abort()
            return
        self._count()
        if near.moved or far.moved:
            near.moved = far.moved = False
            self._since_ns = now_ns
        elif now_ns - self._since_ns >= self._silence_ns:
            self.end()
            return
        if self.parting:
            if now_ns - self._parting_ns >= _REST_NS:
                self.end()
            return
        found = self._call.found
        if found is not None and now_ns - self._checked_ns >= _CHECK_NS:
            self._checked_ns = now_ns
            account = self._lane.resolver.cached(found)
            if account is None:
                self._lane.spawn(self._check(found))
            else:
                self._judge(account)

    def bar(self, why: bytes) -> None:
        """The caller may no longer: nothing more goes up, and behind the frame under way the client is told."""
        self._part(_POLICY, why)

    def go_away(self) -> None:
        """The process ends: both sides are told behind the frames under way."""
        self._part(_GOING_AWAY, b"")

    def _part(self, code: int, reason: bytes) -> None:
        if self.over or self.parting:
            return
        self.parting, self._reason = code, reason
        self._parting_ns = self._lane.monotonic_ns()
        for side in (self._near, self._far):
            self.rest_of_frame(side, b"")

    def rest_of_frame(self, side: Side, data: bytes) -> None:
        """What still comes while parting passes up to the end of its frame; then the other side is told."""
        near, far, frames, at = self._near, self._far, side.frames, 0
        barred = self.parting == _POLICY
        if self.over or side.told or (barred and side is near and frames.step):
            return  # a caller who may no longer ends no frame either: the upstream sees its connection end
        while (step := frames.step) and at < len(data):
            side.take(data[at : at + step])
            at += step
        if step:
            return
        side.told = True
        ended = side.other.lost or (side is near and self._client.half_closed)  # nothing can stand behind an end
        if not ended:
            mask = os.urandom(4) if side is near else b""
            side.other.transport.write(close_frame(self.parting, self._reason, mask))
        if far.told and (near.told or barred):
            self.end()

    def _judge(self, account: Account) -> None:
        why = _BARRED.get(account.principal.state)
        if why is not None:
            self.bar(why)

    def end(self) -> None:
        """Records the call, then closes both sides; what is on its way to them still goes out."""
        if self.over:
            return
        self.over = True
        self._since_ns = self._lane.monotonic_ns()
        self._count()
        recorded = self._call.tunnel_over()
        far = self._far.transport
        if self._near.told and far.can_write_eof() and not far.is_closing():
            far.write_eof()  # it answers a close of ours with its own, which must not meet a reset
        else:
            far.close()
        if not recorded:
            self._near.transport.abort()
        elif self._lane.switches.sync and not self._near.lost:
            self._lane.spawn(self._close_synced())
        else:
            self._close()

    async def _close_synced(self) -> None:
        if await self._call.synced():
            self._close()
        else:
            self._near.transport.abort()

    def _close(self) -> None:
        # Handed back, the client's connection reads and forgets for a while, so that no reset destroys the last bytes.
        if self._client.end_tunnel(stalled=self._near.stalled):
            self._near.lost = True
            if self._far.lost:
                self._lane.tunnel_left(self)

    async def _check(self, found: Found) -> None:
        try:
            self._judge(await self._caller(found))
        except Unauthenticated as error:
            if error.reason in _ENDED:
                self.bar(error.reason.encode())
        except StoreError:
            pass  # asked again at the next check

    async def _caller(self, found: Found) -> Account:
        """As it stands now. Behind a token that has expired there still is its tenant."""
        resolver, account = self._lane.resolver, self._call.account
        try:
            return await resolver.resolve(found, self._client.peer.ip)
        except Unauthenticated:
            if found.kind != "jwt" or account is None:
                raise
        return await resolver.standing(account.principal.tenant)

    def _count(self) -> None:
        call, near, far = self._call, self._near, self._far
        call.bytes_in, call.bytes_out = near.size, far.size
        call.messages = near.messages + far.messages
