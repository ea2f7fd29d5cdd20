"""Who counts as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.admission.scopes import address_identity, fill, overflow, static_values
from sidecar.core.policy import Route
from sidecar.core.values import Principal

ROUTE = Route("r", "/", "api")


@pytest.mark.parametrize(
    ("address", "identity"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::/64"),
        ("no:address", "no:address"),
    ],
)
def test_an_ipv6_caller_is_its_64(address: str, identity: str) -> None:
    """RFC 6177: a subscriber holds at least a /64, so single addresses bound nobody."""
    assert address_identity(address) == identity


_TEXT = st.text("ab-/_:", max_size=4)
_WHO = st.tuples(_TEXT, _TEXT, _TEXT, st.none() | st.binary(max_size=70))


@given(a=_WHO, b=_WHO)
def test_keys_are_injective(a: tuple[str, str, str, bytes | None], b: tuple[str, str, str, bytes | None]) -> None:
    """design 6: joined keys collide, and that is money on another customer's bill."""
    scope = ("tenant", "key", "ip", "header:x")

    def key(who: tuple[str, str, str, bytes | None]) -> tuple[object, ...]:
        values = static_values(scope, Principal(who[0], who[1], "p"), ROUTE)
        return tuple(fill(scope, values, who[2].replace(":", "."), lambda name: who[3]))

    same = (*a[:2], a[2].replace(":", "."), a[3]) == (*b[:2], b[2].replace(":", "."), b[3])
    assert (key(a) == key(b)) == same


def test_the_overflow_keeps_tenants_and_routes_apart() -> None:
    scope = ("tenant", "key", "route", "ip")
    values = [overflow(scope, static_values(scope, Principal(t, k, "p"), ROUTE)) for t, k in (("a", "1"), ("a", "2"))]
    assert values[0] == values[1]
    other = overflow(scope, static_values(scope, Principal("b", "1", "p"), ROUTE))
    assert other != values[0]
    key_only = overflow(("key",), static_values(("key",), Principal("a", "1", "p"), ROUTE))
    assert key_only != overflow(("key",), static_values(("key",), Principal("b", "1", "p"), ROUTE))


def test_anonymous_callers_are_one_and_not_the_tenant_called_none() -> None:
    assert static_values(("tenant", "key"), None, ROUTE) == [None, None]
    assert static_values(("tenant",), Principal("None", "k", "p"), ROUTE) != [None]


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="not a scope"):
        static_values(("planet",), None, ROUTE)


def test_headers_are_asked_by_lower_case_name() -> None:
    asked: list[bytes] = []

    def header(name: bytes) -> bytes | None:
        asked.append(name)
        return b"v"

    assert fill(("header:x-account",), [None], "", header) == [b"v"]
    assert asked == [b"x-account"]
