"""The router against a naive matcher that tries every route."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.policy import Route
from sidecar.gateway import Router


def route(path: str, *, methods: str = "", host: str | None = None) -> Route:
    name = f"{methods} {host} {path}"
    return Route(name, path, "api", methods=frozenset(methods.split()) or None, host=host)


def router(*routes: Route) -> Router[str]:
    return Router((one, one.path) for one in routes)


def test_precedence_at_each_segment() -> None:
    found = router(route("/a/b"), route("/a/{x}"), route("/a/{x...}"), route("/{x...}"), route("/"))
    for path, wanted in {
        b"/a/b": "/a/b", b"/a/c": "/a/{x}", b"/a/b/c": "/a/{x...}", b"/a": "/a/{x...}", b"/b": "/{x...}", b"/": "/",
        b"/a/b/": "/a/b",
    }.items():  # fmt: skip
        assert found.match(b"GET", b"h", path) == wanted


def test_backtracking() -> None:
    """The literal /a/b is a dead end for /a/b/d; another method's leaf is one too."""
    found = router(route("/a/b/c"), route("/a/{x}/d"), route("/a/b", methods="POST"), route("/{x}/b"))
    assert found.match(b"GET", b"h", b"/a/b/d") == "/a/{x}/d"
    assert found.match(b"GET", b"h", b"/a/b") == "/{x}/b"
    assert found.match(b"POST", b"h", b"/a/b") == "/a/b"
    assert found.match(b"GET", b"h", b"/a/b/e") is None


def test_hosts() -> None:
    found = Router(
        (one, one.host)
        for one in (
            route("/", host="a.b.c"),
            route("/", host="*.b.c"),
            route("/", host="*.c"),
            route("/{x...}"),
        )
    )
    for host, wanted in {
        b"a.b.c": "a.b.c", b"A.B.C:80": "a.b.c", b"a.b.c.": "a.b.c", b"x.b.c": "*.b.c", b"y.x.b.c": "*.b.c",
        b"b.c": "*.c", b"c": None, b"other": None, b"[::1]:80": None,
    }.items():  # fmt: skip
        assert found.match(b"GET", host, b"/") == wanted


def test_head_is_get_and_allow_says_so() -> None:
    found = router(route("/a", methods="GET"), route("/b", methods="POST PUT"))
    assert found.match(b"HEAD", b"h", b"/a") == "/a"
    assert found.match(b"HEAD", b"h", b"/b") is None
    assert found.methods(b"h", b"/a") == {b"GET", b"HEAD"}
    assert found.methods(b"h", b"/b") == {b"POST", b"PUT"}
    assert found.methods(b"h", b"/c") == set()


_SEGMENT = st.sampled_from(["a", "b", "c", "{x}"])
_TEMPLATE = st.builds(
    lambda segments, rest: "/" + "/".join([*segments, *(["{r...}"] if rest else [])]),
    st.lists(_SEGMENT, max_size=3),
    st.booleans(),
)
_PATH = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=4).map(lambda segments: "/" + "/".join(segments))


def _rank(template: str, path: str) -> tuple[int, ...] | None:
    """How well the template fits: one number per segment, lower is better; None when it does not."""
    wanted = [part for part in template.split("/") if part]
    given_ = [part for part in path.split("/") if part]
    ranks = []
    for at, part in enumerate(wanted):
        if part.endswith("...}"):
            return (*ranks, 3)
        if at >= len(given_) or (part != given_[at] and not part.startswith("{")):
            return None
        ranks.append(1 if part.startswith("{") else 0)
    return (*ranks, 2) if len(wanted) == len(given_) else None


@settings(max_examples=200)
@given(st.lists(_TEMPLATE, max_size=8, unique=True), _PATH)
def test_against_every_route_tried(templates: list[str], path: str) -> None:
    fits = {template: rank for template in templates if (rank := _rank(template, path)) is not None}
    best = min(fits, key=lambda template: fits[template], default=None)
    assert router(*map(route, templates)).match(b"GET", b"h", path.encode()) == best


class _Counting(dict[bytes, object]):
    looked_up = 0

    def get(self, key: bytes, default: object = None) -> object:  # type: ignore[override]
        _Counting.looked_up += 1
        return super().get(key, default)


def _lookups(number: int) -> int:
    found = router(*(route(f"/v{n % 7}/r{n}/{{id}}") for n in range(number)))

    def count(node: object) -> None:
        node.literals = _Counting(node.literals)  # type: ignore[attr-defined]
        for child in _children(node):
            count(child)

    count(found._any)
    _Counting.looked_up = 0
    assert found.match(b"GET", b"h", b"/v0/r0/x") == "/v0/r0/{id}"
    return _Counting.looked_up


def _children(node: object) -> Iterable[object]:
    one = node.one  # type: ignore[attr-defined]
    return [*node.literals.values(), *([one] if one else [])]  # type: ignore[attr-defined]


def test_the_number_of_routes_does_not_matter() -> None:
    assert _lookups(10_000) == _lookups(1)
