"""What a target's name stands for: asked anew in the background, the last good answer kept."""

import asyncio
import logging
import socket

from sidecar.core.addresses import address_of, is_link_local
from sidecar.core.clock import Clock
from sidecar.core.errors import UpstreamError
from sidecar.core.upstreams import Target, Upstream

MOST = 64  # addresses of one name that are kept
TRIED = 4  # of them for one connection; the next connection begins with the next address
_log = logging.getLogger(__name__)


class Addresses:
    """The addresses of one target. A name is resolved when it is first needed and then every ``dns_refresh``; while
    an answer fails to come, the one before it is used. An address, or the path of a socket, stands for itself.

    ``known`` is empty until the first answer.
    """

    def __init__(self, target: Target, upstream: Upstream, clock: Clock) -> None:
        self._target = target
        self._allow_link_local = upstream.allow_link_local
        self._refresh_ns = upstream.dns_refresh_ns
        self._clock = clock
        self._asked_ns = 0
        self._asking: asyncio.Task[None] | None = None
        self._turn = 0
        self._error: OSError | None = None  # of the last answer
        self._refused: set[str] = set()  # since the last answer
        literal = bool(target.socket) or address_of(target.host) is not None
        self.known: tuple[str, ...] = (target.socket or target.host,) if literal else ()
        self.fixed = literal

    async def next(self) -> list[str]:
        """What to connect to, in this order. OSError when the name has never been resolved; UpstreamError when it
        stands for link-local addresses only."""
        if self.fixed and self._allow_link_local:
            return list(self.known)
        if self.due(self._clock.monotonic_ns()):
            self.ask()
        if not self.known and self._asking is not None:
            await asyncio.shield(self._asking)
        if not self.known:
            raise self._error or OSError("the name has no address")
        # Configured addresses were judged with the configuration; here it is what a name resolves to.
        found = [a for a in self.known if self._allow_link_local or not is_link_local(a)]
        if not found:
            raise UpstreamError(
                "connect", f"{self._target} resolves to link-local addresses, which need allow_link_local: true"
            )
        self._turn += 1
        at = (self._turn - 1) % len(found)
        return sorted(found[at:] + found[:at], key=self._refused.__contains__)[:TRIED]

    def tried(self, address: str, *, well: bool) -> None:
        """Whether a connection came about; an address that takes none goes to the end until the next answer."""
        if well:
            self._refused.discard(address)
        elif address in self.known:
            self._refused.add(address)

    def holds(self, address: str) -> bool:
        """Whether the name still stands for the address, as far as is known."""
        return self.fixed or address in self.known

    def due(self, now_ns: int) -> bool:
        """Whether it is time to ask."""
        if self.fixed or self._asking is not None:
            return False
        return not self.known or now_ns - self._asked_ns >= self._refresh_ns

    def ask(self) -> None:
        """Resolves the name in the background; one question at a time."""
        if self._asking is None:
            self._asked_ns = self._clock.monotonic_ns()
            self._asking = asyncio.get_running_loop().create_task(self._ask())

    def close(self) -> None:
        """Waits for no answer any more."""
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        host, port = self._target.host, self._target.port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            if self.known and self._error is None:
                _log.warning("%s is not resolved anew, its last addresses are used: %s", host, error)
            self._error = error
        else:
            self._error = None
            self._refused.clear()
            self.known = tuple(dict.fromkeys(str(info[4][0]) for info in found))[:MOST] or self.known
        finally:
            self._asking = None
