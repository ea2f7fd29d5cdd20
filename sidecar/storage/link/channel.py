"""One connection of the link: calls both ways, answered in any order.

A frame is a u32 with its size and a ``wire`` value: ``("?", number, name, arguments)`` asks, ``("=", number, value)``
answers, ``("!", number, error, text)`` says why there is no answer.

Bounds: a frame is at most ``MAX_FRAME``; at most ``MAX_CALLS`` calls wait for their answer at either end. More get
StoreDown at once. What breaks the rules ends the connection.
"""

import asyncio
import inspect
import logging
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

from sidecar.core import errors
from sidecar.core.errors import SidecarError, StoreDown, StoreError
from sidecar.storage.link.wire import Wire

MAX_FRAME = 64 * 1024 * 1024
MAX_CALLS = 4096
Handler: TypeAlias = Callable[..., Any]  # a value, or an awaitable of one
_SIZE = struct.Struct("<I")
_ERRORS = {
    name: cls
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and issubclass(cls, SidecarError) and cls.__init__ is SidecarError.__init__
}
_log = logging.getLogger("sidecar.link")


class Channel(asyncio.Protocol):
    """``handlers`` answer what the other end asks. ``lost`` is called once, when the connection has ended."""

    def __init__(self, wire: Wire, handlers: Mapping[str, Handler], lost: Callable[[], None] | None = None) -> None:
        self.handlers = handlers
        self.lost = lost
        self.ended = False
        self._wire = wire
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, name: str, *arguments: Any, timeout_s: float | None = 5.0) -> Any:
        """What the other end answers. StoreDown: no answer in time, or none any more; the call may have been done.

        Errors of ``core.errors`` that the other end raised are raised here.
        """
        if self.ended or self._transport is None:
            raise StoreDown("the other end of the link is gone")
        if len(self._waiting) >= MAX_CALLS:
            raise StoreDown(f"{MAX_CALLS} calls wait for the other end of the link already")
        self._number = number = self._number + 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._send(("?", number, name, arguments))
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise StoreDown(f"the other end of the link did not answer within {timeout_s} s") from None
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Ends the connection; calls under way end in StoreDown."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(StoreDown("the other end of the link is gone"))
        for task in self._tasks:
            task.cancel()
        if self.lost is not None:
            self.lost()

    def data_received(self, data: bytes) -> None:
        held = self._data
        held += data
        at = 0
        while len(held) - at >= _SIZE.size and not self.ended:
            (size,) = _SIZE.unpack_from(held, at)
            if size > MAX_FRAME:
                self._broken(f"a frame of {size} bytes")
                return
            if len(held) - at - _SIZE.size < size:
                break
            start = at + _SIZE.size
            at = start + size
            try:
                self._frame(self._wire.unpack(bytes(held[start:at])))
            except (SidecarError, ValueError, TypeError, IndexError) as error:
                self._broken(str(error))
                return
        if at:
            del held[:at]

    def _broken(self, why: str) -> None:
        _log.error("the link is closed, the other end broke its rules: %s", why)
        self.close()

    def _frame(self, frame: tuple[Any, ...]) -> None:
        kind, number, value = frame[:3]
        if kind == "?":
            self._asked(number, value, frame[3])
            return
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if kind == "=":
            future.set_result(value)
        elif kind == "!":
            future.set_exception(_ERRORS.get(value, StoreError)(frame[3]))
        else:
            raise ValueError(f"a frame of no kind: {kind!r}"[:80])

    def _asked(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        handler = self.handlers.get(name)
        if handler is None:
            self._send(("!", number, "StoreError", f"there is no call {name!r}"[:80]))
            return
        if len(self._tasks) >= MAX_CALLS:
            self._send(("!", number, "StoreDown", f"{MAX_CALLS} calls are under way already"))
            return
        try:
            result = handler(*arguments)
        except Exception as error:  # it is the caller's to know
            self._failed(number, name, error)
            return
        if not inspect.isawaitable(result):
            self._send(("=", number, result))
            return
        task = asyncio.ensure_future(self._answer(number, name, result))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, name: str, work: Awaitable[Any]) -> None:
        try:
            self._send(("=", number, await work))
        except Exception as error:  # also of an answer that does not fit: whoever asked would wait for ever
            self._failed(number, name, error)

    def _failed(self, number: int, name: str, error: Exception) -> None:
        kind = type(error).__name__
        if not isinstance(error, SidecarError):
            _log.error("the call %s failed", name, exc_info=error)
            kind = "StoreError"
        self._send(("!", number, kind, str(error) or kind))

    def _send(self, frame: tuple[Any, ...]) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        data = self._wire.pack(frame)
        if len(data) > MAX_FRAME:
            raise StoreError(f"{len(data)} bytes are too many for one frame of the link")
        self._transport.write(_SIZE.pack(len(data)) + data)  # two writes would wake the other end twice
