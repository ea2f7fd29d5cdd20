"""Which route a request takes, in time that does not grow with the number of routes.

A trie over path segments per host; at each segment a literal goes before ``{name}``, which goes before ``{name...}``.
A route that names the method goes before one for any method. A trailing slash makes no difference, because most
frameworks serve both, and a policy that depends on it could be walked around.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

from sidecar.core.policy import Route

T = TypeVar("T")


class _Leaf(Generic[T]):
    __slots__ = ("any_method", "by_method")

    def __init__(self) -> None:
        self.by_method: dict[bytes, T] = {}
        self.any_method: T | None = None

    def pick(self, method: bytes) -> T | None:
        found = self.by_method.get(method)
        return self.any_method if found is None else found


class _Node(Generic[T]):
    __slots__ = ("here", "literals", "one", "rest")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node[T]] = {}
        self.one: _Node[T] | None = None
        self.here: _Leaf[T] | None = None
        self.rest: _Leaf[T] | None = None


class Router(Generic[T]):
    """Finds what stands for a route. Exact hosts go before ``*.suffix``, longer suffixes first, then any host."""

    __slots__ = ("_any", "_exact", "_hosts", "_suffixes")

    def __init__(self, routes: Iterable[tuple[Route, T]]) -> None:
        self._any: _Node[T] = _Node()
        self._exact: dict[bytes, _Node[T]] = {}
        self._suffixes: dict[bytes, _Node[T]] = {}
        for route, value in routes:
            _add(self._root(route.host), route, value)
        self._hosts = bool(self._exact or self._suffixes)

    def match(self, method: bytes, host: bytes, path: bytes) -> T | None:
        """The route's value, or None. ``host`` may carry a port; ``path`` is normalised and begins with ``/``."""
        segments = _segments(path)
        for root in self._roots(host):
            for leaf in _leaves(root, segments, 0):
                if (found := leaf.pick(method)) is not None:
                    return found
        return None

    def methods(self, host: bytes, path: bytes) -> set[bytes]:
        """The methods that would match here, for ``Allow`` (RFC 9110, 10.2.1)."""
        segments = _segments(path)
        methods: set[bytes] = set()
        for root in self._roots(host):
            for leaf in _leaves(root, segments, 0):
                methods |= leaf.by_method.keys()
        return methods

    def _root(self, host: str | None) -> _Node[T]:
        if host is None:
            return self._any
        name = host.lower().encode()
        if name.startswith(b"*."):
            return self._suffixes.setdefault(name[2:], _Node())
        return self._exact.setdefault(name, _Node())

    def _roots(self, host: bytes) -> Iterable[_Node[T]]:
        if self._hosts:
            name = _without_port(host).lower().rstrip(b".")
            if (exact := self._exact.get(name)) is not None:
                yield exact
            while b"." in name:
                name = name.partition(b".")[2]
                if (suffix := self._suffixes.get(name)) is not None:
                    yield suffix
        yield self._any


def _add(node: _Node[T], route: Route, value: T) -> None:
    segments = _segments(route.path.encode())
    leaf: _Leaf[T] | None = None
    for segment in segments:
        if segment.startswith(b"{") and segment.endswith(b"...}"):
            leaf = node.rest = node.rest or _Leaf()
            break
        if segment.startswith(b"{"):
            node.one = node.one or _Node()
            node = node.one
        else:
            node = node.literals.setdefault(segment, _Node())
    if leaf is None:
        leaf = node.here = node.here or _Leaf()
    if route.methods is None:
        leaf.any_method = value if leaf.any_method is None else leaf.any_method
        return
    for method in route.methods:
        leaf.by_method.setdefault(method.encode(), value)
    if "GET" in route.methods:
        leaf.by_method.setdefault(b"HEAD", value)  # RFC 9110, 9.3.2: HEAD is GET without the body


def _leaves(node: _Node[T], segments: list[bytes], at: int) -> Iterable[_Leaf[T]]:
    """Leaves that match, best first. Each level branches at most twice, and a path has a bounded length."""
    if at == len(segments):
        if node.here is not None:
            yield node.here
    else:
        literal = node.literals.get(segments[at])
        if literal is not None:
            yield from _leaves(literal, segments, at + 1)
        if node.one is not None:
            yield from _leaves(node.one, segments, at + 1)
    if node.rest is not None:
        yield node.rest


def _segments(path: bytes) -> list[bytes]:
    path = path.strip(b"/")
    return path.split(b"/") if path else []


def _without_port(host: bytes) -> bytes:
    return host.partition(b"]")[0] + b"]" if host.startswith(b"[") else host.partition(b":")[0]
