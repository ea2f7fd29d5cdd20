"""One HTTP/2 connection: h2 reads and writes the frames, every stream gets its turn, and what a client may make us do
without asking for anything has a bound."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from sidecar.core.clock import NS_PER_S
from sidecar.gateway.client import ClientConnection
from sidecar.gateway.exchange import Exchange
from sidecar.gateway.http2.heads import BadHead, request_head
from sidecar.gateway.http2.stream import Stream
from sidecar.gateway.lane import LAST_NS, Lane
from sidecar.http1 import Field

MAX_STREAMS = 100  # at once (RFC 9113, 6.5.2 advises no less)
WINDOW = 256 * 1024  # bytes of a request's body that may be under way on a stream
WINDOW_ALL = 1024 * 1024  # and on all streams together
# Frames in a row that ask for nothing (pings, settings, resets, empty data) before the connection ends: a flood of them
# costs a client little and us much (CVE-2019-9511 to 9518, CVE-2023-44487).
MAX_IDLE_FRAMES = 1000
MAX_RESETS = 200  # of requests by the client beyond those that were answered
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_GRACE_NS = 2_000_000_000
_HEAD = 9  # bytes before each frame (RFC 9113, 4.1)
_GOAWAY = 0x07
_SHORTEST_GOAWAY = 8
_NO_STREAM = (1 << 31) - 1  # as the last stream of a GOAWAY: whatever is on its way is still answered (RFC 9113, 6.8)


class FrameHeads:
    """What h2 is given, frame by frame: one longer than was agreed on is seen at its head, where h2 would first gather
    all of it, up to 16 MiB (RFC 9113, 4.2), and a GOAWAY is taken out, after which h2 neither sends nor reads anything,
    though the client still waits for replies (6.8). Held: the beginning of one head.

    ``longest``: of the frames that began so far, in bytes. ``gone_away``: the client will ask for nothing more.
    """

    __slots__ = ("_drops", "_head", "_left", "gone_away", "longest")

    def __init__(self) -> None:
        self._left = len(PREFACE)  # bytes of the frame under way
        self._drops = False  # it is a GOAWAY
        self._head = b""
        self.longest = 0
        self.gone_away = False

    def pass_on(self, data: bytes) -> bytes:
        """``data`` as h2 may have it."""
        passed: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                if not self._drops:
                    passed.append(data[at : at + step])
                self._left -= step
                at += step
                continue
            wanted = _HEAD - len(self._head)
            self._head += data[at : at + wanted]
            at += wanted
            if len(self._head) == _HEAD:
                head, self._head = self._head, b""
                self._begin(head)
                if not self._drops:
                    passed.append(head)
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def _begin(self, head: bytes) -> None:
        length, number = int.from_bytes(head[:3], "big"), int.from_bytes(head[5:9], "big") & _NO_STREAM
        self._left = length
        self.longest = max(self.longest, length)
        self._drops = head[3] == _GOAWAY and number == 0 and length >= _SHORTEST_GOAWAY  # else h2 says what is wrong
        self.gone_away = self.gone_away or self._drops


class Http2Connection(asyncio.Protocol):
    """Held at most: ``WINDOW_ALL`` bytes of requests, and of each of ``MAX_STREAMS`` replies the lane's ``buffer``.

    To the lane it is one more connection: ``deadline_ns`` (monotonic, 0 is none), ``expire`` and ``drain`` are as of a
    ClientConnection; ``current`` is always None, since the streams' connections are the lane's too.
    """

    transport: asyncio.Transport  # from connection_made on

    def __init__(self, lane: Lane, said: str | None = None) -> None:
        """``said``: the client's address as a trusted proxy told it; None: the peer's own."""
        self._lane = lane
        self._said = said
        self._bounds = lane.rules.bounds
        self._frames = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._heads = FrameHeads()
        self._streams: dict[int, Stream] = {}
        self._turns: deque[Stream] = deque()
        self._stalled = self._ending = False
        self._idle_frames = self._resets = 0
        self._mark = 0  # bytes that were still to be read when the wait for the reader began
        self._ip = ""
        self.current: Exchange | None = None
        self.deadline_ns = 0

    # The socket's side (asyncio.Protocol)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self._ip = self._said or (name[0] if isinstance(name, tuple) else "unix")
        if not self._lane.entered(self, self._ip):
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=self._bounds.buffer)
        frames = self._frames
        frames.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: self._bounds.max_header_bytes,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            },
        )
        frames.initiate_connection()
        frames.increment_flow_control_window(WINDOW_ALL - frames.inbound_flow_control_window)
        self._flush()
        self.deadline_ns = self._lane.monotonic_ns() + self._bounds.header_timeout_ns

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        data = self._heads.pass_on(data)
        if self._heads.longest > self._frames.max_inbound_frame_size:
            self._give_up(ErrorCodes.FRAME_SIZE_ERROR)
            return
        try:
            events = self._frames.receive_data(data)
        except H2Error:
            self._give_up()  # h2 has made the GOAWAY that says why
            return
        for event in events:
            self._take(event)
        if self._idle_frames > MAX_IDLE_FRAMES or self._resets > MAX_RESETS:
            self._give_up(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        self._serve()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lane.left(self, self._ip)
        self.deadline_ns = 0
        self._turns.clear()
        for stream in list(self._streams.values()):
            self._drop(stream)

    def pause_writing(self) -> None:
        self._stalled = True
        self.transport.pause_reading()  # what a client sends makes us write: a reader that is slow is heard later
        self._wait_for_reader()

    def resume_writing(self) -> None:
        self._stalled = False
        if not self.transport.is_closing():
            self.deadline_ns = 0  # the reader owes nothing any more; the streams have deadlines of their own
            self._wait()
            self.transport.resume_reading()
            self._serve()

    # The lane's side

    def drain(self) -> None:
        """The process ends: the client is told to ask for nothing more, and what was on its way is still answered."""
        if self._ending or self.transport.is_closing():
            return
        self._ending = True
        # Not by h2, which sends nothing more after a GOAWAY of its own.
        self.transport.write(GoAwayFrame(0, last_stream_id=_NO_STREAM).serialize())
        self._wait()

    def expire(self) -> None:
        """Nothing came, or nothing was read, for too long."""
        self.deadline_ns = 0
        left = self.transport.get_write_buffer_size()
        share = self._bounds.body_rate * self._bounds.body_timeout_ns // NS_PER_S
        if self._stalled and left <= self._mark - max(1, share):
            self._wait_for_reader()  # it reads, if slowly
        elif self._stalled or self.transport.is_closing():
            self.transport.abort()
        else:
            self._give_up(ErrorCodes.NO_ERROR)

    # What the client sent

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, DataReceived):
            self._idle_frames = 0 if event.data else self._idle_frames + 1
            stream = self._streams.get(event.stream_id)
            if stream is None:  # it was reset meanwhile; its window is given back all the same
                self._acknowledge(event.flow_controlled_length, event.stream_id)
            else:
                stream.take(event.data, event.flow_controlled_length)
        elif isinstance(event, StreamEnded):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.finish()
        elif isinstance(event, StreamReset):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                self._resets += 1
                self._drop(stream)
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            self._idle_frames += 1
            self._turns = deque(stream for stream in self._streams.values() if stream.out or stream.ended)
        elif not isinstance(event, TrailersReceived):  # trailers of a request are dropped (RFC 9110, 6.5.1)
            self._idle_frames += 1

    def _begin(self, event: RequestReceived) -> None:
        number = event.stream_id
        self._idle_frames = 0
        try:
            head, method, chunked = request_head(event.headers, ended=event.stream_ended is not None)
        except BadHead:
            self._resets += 1
            self._reset(number, ErrorCodes.PROTOCOL_ERROR)
            return
        stream = self._streams[number] = Stream(number, self, method, chunked=chunked)
        self.deadline_ns = 0
        stream.begin(ClientConnection(self._lane, self._said), head)

    # What the streams want (stream.Frames)

    def send_head(self, stream: Stream, status: int, fields: Sequence[Field]) -> None:
        """An interim head or the head of the reply."""
        try:
            self._frames.send_headers(stream.number, [(b":status", b"%d" % status), *fields])
        except H2Error:  # the client gave it up in the same read
            return

    def wants_turn(self, stream: Stream) -> None:
        """Called inside the lane: the sending waits for the end of this turn of the loop, as many writes become one."""
        if not self._turns:
            asyncio.get_running_loop().call_soon(self._serve)
        if stream not in self._turns:
            self._turns.append(stream)

    def credit(self, stream: Stream, size: int) -> None:
        """The lane took so much of a request's body."""
        self._acknowledge(size, stream.number)

    def abandon(self, stream: Stream) -> None:
        """The reply ends before it is whole: the client must not take it for that."""
        self._reset(stream.number, ErrorCodes.INTERNAL_ERROR)
        loop = asyncio.get_running_loop()
        loop.call_soon(self._drop, stream)
        loop.call_soon(self._serve)

    # Sending

    def _serve(self) -> None:
        """Sends what windows and the socket allow, a frame of each stream in turn."""
        if self.transport.is_closing():
            return
        waiting = []
        while self._turns and not self._stalled:
            stream = self._turns.popleft()
            if stream.number in self._streams and not self._send_frame(stream):
                waiting.append(stream)
        self._turns.extend(waiting if self._stalled else ())
        self._flush()
        self._end_when_idle()

    def _send_frame(self, stream: Stream) -> bool:
        """One frame of a reply; False when its window is closed."""
        frames, number = self._frames, stream.number
        try:
            if stream.out:
                room = min(frames.local_flow_control_window(number), frames.max_outbound_frame_size)
                if room <= 0:
                    return False
                piece = bytes(stream.out[:room])
                last = stream.ended and len(piece) == len(stream.out) and not stream.trailers
                frames.send_data(number, piece, end_stream=last)
                self._idle_frames = 0  # what opened the window asked for this piece
                stream.sent(len(piece))
                self._flush()
                if not last:
                    if stream.out or stream.ended:
                        self._turns.append(stream)
                    return True
            elif not stream.ended:
                return True
            elif stream.trailers:
                frames.send_headers(number, stream.trailers, end_stream=True)
            else:
                frames.end_stream(number)
        except H2Error:  # the client gave it up, or a trailer's name is none of HTTP/2
            self._reset(number, ErrorCodes.INTERNAL_ERROR)
        else:
            self._resets = max(0, self._resets - 1)
            if not stream.whole:
                self._reset(number, ErrorCodes.NO_ERROR)  # an early reply: the rest of the body is not wanted
        self._drop(stream)
        return True

    def _acknowledge(self, size: int, number: int) -> None:
        if size:
            try:
                self._frames.acknowledge_received_data(size, number)
            except H2Error:  # the connection has ended
                return
            if not self._turns:
                asyncio.get_running_loop().call_soon(self._serve)

    def _reset(self, number: int, code: ErrorCodes) -> None:
        try:
            self._frames.reset_stream(number, code)
        except H2Error:  # it is over already
            return

    def _drop(self, stream: Stream) -> None:
        if self._streams.pop(stream.number, None) is not None:
            stream.lost()
            self._wait()

    def _give_up(self, code: ErrorCodes | None = None) -> None:
        if code is not None:
            self._frames.close_connection(code)
        self._flush()
        self.transport.close()
        self.deadline_ns = self._lane.monotonic_ns() + _GRACE_NS

    def _flush(self) -> None:
        data = self._frames.data_to_send()
        if data:
            self.transport.write(data)

    def _wait(self) -> None:
        if not (self._streams or self._stalled or self.transport.is_closing()):
            wait_ns = min(LAST_NS, self._bounds.keepalive_ns) if self._ending else self._bounds.keepalive_ns
            self.deadline_ns = self._lane.monotonic_ns() + wait_ns

    def _wait_for_reader(self) -> None:
        self._mark = self.transport.get_write_buffer_size()
        self.deadline_ns = self._lane.monotonic_ns() + self._bounds.body_timeout_ns

    def _end_when_idle(self) -> None:
        if self._heads.gone_away and not self._streams:
            self._give_up(ErrorCodes.NO_ERROR)
