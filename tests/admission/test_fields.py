"""The fields are structured fields (RFC 9651), and they are right and move."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.admission.fields import Announcement
from sidecar.core.policy import Concurrency, Limit, Plan, Quota
from sidecar.core.values import Principal

S = 1_000_000_000
_STRING = r'"((?:[^"\\\x00-\x1f\x7f-\uffff]|\\["\\])*)"'
_ITEM = re.compile(rf'{_STRING}((?:;[a-z]+=(?:\d{{1,15}}|"[a-z-]*"))*)(?:, |$)')


def parse(lines: bytes) -> dict[str, dict[str, dict[str, Any]]]:
    """Field name to policy name to parameters; fails on anything that is not a list of strings with parameters."""
    fields: dict[str, dict[str, dict[str, Any]]] = {}
    assert lines.endswith(b"\r\n")
    for line in lines.decode("ascii").removesuffix("\r\n").split("\r\n"):
        name, _, value = line.partition(": ")
        items: dict[str, dict[str, Any]] = {}
        at = 0
        while at < len(value):
            match = _ITEM.match(value, at)
            assert match is not None, value[at:]
            parameters = [part.split("=") for part in match[2].split(";")[1:]]
            items[re.sub(r"\\(.)", r"\1", match[1])] = {
                k: int(v) if v.isdigit() else v.strip('"') for k, v in parameters
            }
            at = match.end()
        fields[name] = items
    return fields


async def test_fields_are_present_right_and_moving(desk: Any) -> None:
    """Kong/kong#4379; envoyproxy/ai-gateway#1754 (field-bugs 7)."""
    plan = Plan(
        "p",
        limits=(Limit("burst", 3, S, ("key",)), Limit("steady", 100, 60 * S)),
        concurrency=(Concurrency("parallel", 9),),
        quotas=(Quota("monthly", "requests", 10_000, "month"),),
    )
    desk.load(plan)
    gate = (await desk.room.seat(Principal("acme", "k", "p"))).gate(desk.route)
    month = 31 * 86_400
    for n in range(1, 4):
        ticket = desk.ticket(gate)
        fields = parse(ticket.headers)
        assert fields["RateLimit-Policy"] == {
            "burst": {"q": 3, "w": 1},
            "steady": {"q": 100, "w": 60},
            "parallel": {"q": 9, "qu": "concurrent-requests"},
            "monthly": {"q": 10_000, "w": month},
        }
        assert fields["RateLimit"] == {
            "burst": {"r": 3 - n, "t": 1},
            "steady": {"r": 100 - n, "t": 60},
            "parallel": {"r": 8},
            "monthly": {"r": 10_000 - n, "t": month - 12 * 3600},
        }
        ticket.settle({"requests": 1})
    refused = desk.refusal(gate).problem
    headers = dict(refused.headers)
    lines = "".join(f"{name}: {headers[name]}\r\n" for name in ("RateLimit-Policy", "RateLimit"))
    assert parse(lines.encode())["RateLimit"]["burst"] == {"r": 0, "t": 1}
    desk.clock.advance(30)
    fields = parse(desk.ticket(gate).headers)
    assert fields["RateLimit"]["burst"] == {"r": 2, "t": 1}
    assert fields["RateLimit"]["steady"] == {"r": 96, "t": 30}


@given(st.text(max_size=30))
def test_any_name_makes_a_valid_field(name: str) -> None:
    lines = Announcement((Limit(name, 10**18, 1_500_000_000),), (), ()).filled([1, 2])
    (parameters,) = parse(lines)["RateLimit-Policy"].values()
    assert parameters == {"q": 999_999_999_999_999, "w": 2}


_NUMBERS = st.one_of(
    st.integers(0, 1100), st.sampled_from([999_999, 10**6, 10**6 + 1, 10**12 - 1]), st.integers(0, 10**15)
)


@given(st.lists(st.tuples(_NUMBERS, _NUMBERS, _NUMBERS), min_size=1, max_size=20))
def test_the_numbers_are_the_last_ones_given_whatever_was_there_before(rounds: list[tuple[int, int, int]]) -> None:
    fields = Announcement((), (), (Quota("monthly", "requests", 10_000, "month"),))
    for span, left, reset in rounds:
        lines = fields.filled([span, left, reset]).decode()
        assert lines.splitlines() == [
            f'RateLimit-Policy: "monthly";q=10000;w={span}',
            f'RateLimit: "monthly";r={left};t={reset}',
        ]


def test_no_policy_no_field() -> None:
    assert Announcement((), (), ()).filled([]) == b""
