"""What may keep a call out before anybody asks who it is: its address, and the size of its head."""

from typing import Final

from sidecar.core.edges import AddressRules, Ranges
from sidecar.core.problems import Problem, problem
from sidecar.http1 import RequestHead

_REMEMBERED: Final = 4096  # addresses that were judged, at most 1 MiB; then the memory starts anew


class Guard:
    """The rules of one route, all of which must let a call pass."""

    __slots__ = ("_max_head", "_memory", "_rules")

    def __init__(self, rules: tuple[AddressRules, ...], max_head: int | None) -> None:
        """``max_head``: bytes of the header fields; None: what the listener allows."""
        self._rules = [Ranges(rule) for rule in rules]
        self._memory: dict[str, bool] = {}
        self._max_head = max_head

    def judge(self, head: RequestHead, ip: str) -> Problem | None:
        """Why the call from ``ip`` is refused, or None."""
        if self._rules and not self._admits(ip):
            return problem("address_denied", f"calls from {ip} are not taken here")
        bound = self._max_head
        if bound is not None and sum(len(name) + len(value) + 4 for name, value in head.raw_fields) > bound:
            return problem("headers_too_large", f"the header fields may have at most {bound} bytes here")
        return None

    def _admits(self, ip: str) -> bool:
        known = self._memory.get(ip)
        if known is None:
            if len(self._memory) >= _REMEMBERED:
                self._memory.clear()
            known = self._memory[ip] = all(rule.admit(ip) for rule in self._rules)
        return known
