"""Failed attempts per address: at most so many in every minute, whatever the attempts were."""

from ipaddress import IPv6Address, ip_address

from sidecar.core.clock import NS_PER_S, Clock

WINDOW_NS = 60 * NS_PER_S


class Throttle:
    """Blocks an address for as long as it failed ``failures`` times within the last 60 s; knocking does not prolong it.

    Bound: ``addresses`` of at most ``failures`` 32-byte integers each, about 1 KiB, so 4 MiB at the defaults. When it
    is full the address that failed longest ago is dropped. An IPv6 /64 is one address: it is what one customer gets.
    """

    __slots__ = ("_addresses", "_clock", "_failed", "_failures")

    def __init__(self, clock: Clock, *, failures: int = 20, addresses: int = 4096) -> None:
        self._clock = clock
        self._failures = failures
        self._addresses = addresses
        self._failed: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._failed)

    def wait_s(self, address: str) -> int:
        """For how many seconds, rounded up, this address has to wait; 0: it has not."""
        times = self._failed.get(_network(address)) if self._failed else None
        if times is None or len(times) < self._failures:
            return 0
        left_ns = times[0] + WINDOW_NS - self._clock.monotonic_ns()
        return max(0, -(-left_ns // NS_PER_S))

    def failed(self, address: str) -> None:
        """Counts one failure."""
        network = _network(address)
        times = self._failed.pop(network, [])
        times.append(self._clock.monotonic_ns())
        self._failed[network] = times[-self._failures :]
        if len(self._failed) > self._addresses:
            del self._failed[next(iter(self._failed))]


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]  # a Unix socket's peer, or a test's name
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.packed[:8].hex()
