"""Sending at the end of a turn of the event loop, behind what has to be kept first."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

_LOOK: Final = 8  # turns that are waited for before it is judged what waiting brings
_LONELY: Final = 1024  # what comes after turns that brought less than two things each, and is kept at once
_log = logging.getLogger(__name__)


class Turn:
    """Holds back what is to be written until ``keep`` was called, once for all that one turn of the loop brings.

    ``await_keep`` says that there is something to keep. From then on to the end of the turn nothing that is given to
    ``write`` leaves, and so the order on each transport stays. Whatever else is done to a transport than writing and
    aborting (closing, asking what it still has to send) comes after ``settle``.
    Where turns bring less than two things each, waiting for their end gains nothing and takes time: then it is kept at
    once, and now and again a few turns are waited for to see whether that has changed.
    """

    __slots__ = ("_at_once", "_count", "_held", "_keep", "_leaving", "_owing", "_turns", "_waiting")

    def __init__(self, keep: Callable[[], None]) -> None:
        self._keep = keep
        self._held: list[tuple[Any, bytes]] = []
        self._leaving: deque[tuple[Any, bytes]] = deque()  # kept; a write may call back, and bring the next to settle
        self._waiting = self._owing = False  # owing: it could not be kept, and nothing is sent before it is
        self._turns = self._count = 0  # since the last look: turns, and what they brought
        self._at_once = 0  # of what comes next

    def await_keep(self) -> None:
        """Something has to be kept before anything more is sent. Needs a running event loop."""
        if not self._waiting:
            if self._at_once > 0:
                self._at_once -= 1
                if self._kept():
                    return
            self._waiting = True
            self._turns += 1
            asyncio.get_running_loop().call_soon(self.settle)
        self._count += 1

    def _kept(self) -> bool:
        """Keeps what there is; False when that failed."""
        try:
            self._keep()
        except Exception:
            _log.exception("what is to be sent next cannot be written down before it")
            self._owing = True
            return False
        self._owing = False
        return True

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Writes now, or when it may."""
        if self._owing:
            self.await_keep()
        if self._waiting:
            self._held.append((transport, data))
        elif self._leaving:
            self._leaving.append((transport, data))
        else:
            transport.write(data)

    def settle(self) -> bool:
        """Keeps and sends what waits. False when keeping failed: the connections that were to get something are aborted
        then."""
        if not (self._waiting or self._owing):
            return True
        held, self._held = self._held, []
        self._waiting = False
        if self._turns >= _LOOK:
            self._at_once = _LONELY if self._count < 2 * self._turns else 0
            self._turns = self._count = 0
        if not self._kept():
            if held:
                _log.error("%d connections end: what is not written down is not sent", len(held))
            for transport, _ in held:
                transport.abort()
            return False
        self._leaving.extend(held)
        while self._leaving:
            transport, data = self._leaving.popleft()
            if not transport.is_closing():
                self._send(transport, data)
        return True

    def _send(self, transport: asyncio.Transport, data: bytes) -> None:
        try:
            transport.write(data)
        except Exception:  # one connection must not hold back what leaves behind it
            _log.exception("a connection ends: it took nothing")
            transport.abort()
