"""One decision over everything: what passes, what is refused, what it says, and what it costs."""

from typing import Any

import pytest

from sidecar.admission import Ticket
from sidecar.core.policy import Concurrency, Limit, Origin, Plan, Quota, Route
from sidecar.core.values import AccessState, Principal

S = 1_000_000_000


async def test_n_at_the_last_unit_exactly_one_passes(desk: Any) -> None:
    """BerriAI/litellm#34732, #40095 (field-bugs 4)."""
    desk.load(Plan("p", limits=(Limit("steady", 10, 60 * S),)))
    gates = [await desk.gate(key=f"k{i}") for i in range(50)]
    assert sum(desk.passes(gates[0]) for _ in range(9)) == 9
    assert sum(desk.passes(gate) for gate in gates) == 1


async def test_all_keys_and_routes_of_a_tenant_share_its_limit_through_reloads(desk: Any) -> None:
    """apache/apisix#12946, #13584, #6760, #11774; traefik/traefik#13706 (field-bugs 1)."""
    plan = Plan("p", limits=(Limit("steady", 4, 60 * S),))
    desk.load(plan)
    seat = await desk.room.seat(Principal("acme", "k1", "p"))
    assert desk.passes(seat.gate(desk.route))
    assert desk.passes(await desk.gate(key="k2", route=Route("chat", "/chat", "api")))
    for _ in range(3):
        desk.load(plan)
    assert desk.passes(seat.gate(desk.route))
    assert desk.passes(await desk.gate(key="k3"))
    assert not desk.passes(seat.gate(desk.route))
    assert not desk.passes(await desk.gate(key="k4"))
    assert desk.passes(await desk.gate(tenant="other"))


async def test_scopes_make_counters_of_their_own(desk: Any) -> None:
    desk.load(Plan("p", limits=(Limit("each", 1, 60 * S, ("key", "route")),)))
    chat = Route("chat", "/chat", "api")
    assert desk.passes(await desk.gate(key="a"))
    assert desk.passes(await desk.gate(key="b"))
    assert desk.passes(await desk.gate(key="a", route=chat))
    assert not desk.passes(await desk.gate(key="a"))


async def test_keys_of_counters_are_injective(desk: Any) -> None:
    """design 6: ``a-b`` + ``c`` and ``a`` + ``b-c`` are not one; and two tenants may have a key id in common."""
    desk.load(Plan("p", limits=(Limit("each", 1, 60 * S, ("tenant", "key")), Limit("key", 1, 60 * S, ("key",)))))
    for tenant, key in (("a-b", "c"), ("a", "b-c"), ("a", "c"), ("b", "c")):
        assert desk.passes(await desk.gate(tenant=tenant, key=key))
        assert not desk.passes(await desk.gate(tenant=tenant, key=key))


async def test_addresses_and_headers_are_scopes(desk: Any) -> None:
    desk.load(
        Plan("p", limits=(Limit("ip", 1, 60 * S, ("ip",)),)), Plan("h", limits=(Limit("h", 1, S, ("header:x-id",)),))
    )
    gate = await desk.gate()
    assert desk.passes(gate, ip="192.0.2.1")
    assert not desk.passes(gate, ip="192.0.2.1")
    assert desk.passes(gate, ip="192.0.2.2")
    gate = await desk.gate("h")
    assert desk.passes(gate, header=None)
    assert not desk.passes(gate, header=None)
    assert desk.passes(gate, header=b"x" * 5000)
    assert not desk.passes(gate, header=b"x" * 5000)
    assert desk.passes(gate, header=b"x" * 4999 + b"y")


async def test_a_refused_request_consumes_nothing(desk: Any) -> None:
    """envoyproxy/ratelimit#185; Kong/developer.konghq.com#6691 (field-bugs 2, 18): all or nothing, over every kind."""
    plan = Plan(
        "p",
        limits=(Limit("tight", 1, S), Limit("wide", 3, 60 * S)),
        concurrency=(Concurrency("parallel", 3),),
        quotas=(Quota("daily", "requests", 3, "day"),),
    )
    desk.load(plan)
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    gate = seat.gate(desk.route)
    desk.ticket(gate).settle({"requests": 1})
    for _ in range(20):
        assert desk.refusal(gate).problem.extra["violated-policies"] == ["tight"]
    uses = {use.name: use.used for use in desk.room.usage_of("acme")}
    assert uses == {"tight": 1, "wide": 1, "parallel": 0, "daily": 1}
    desk.clock.advance(1)
    assert desk.passes(gate)


async def test_raising_a_limit_takes_effect_at_once(desk: Any) -> None:
    """TykTechnologies/tyk#265 (field-bugs 2)."""
    desk.load(Plan("p", limits=(Limit("steady", 2, 60 * S),), quotas=(Quota("m", "requests", 2, "month"),)))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    assert [desk.passes(seat.gate(desk.route)) for _ in range(3)] == [True, True, False]
    desk.load(Plan("p", limits=(Limit("steady", 5, 60 * S),), quotas=(Quota("m", "requests", 4, "month"),)))
    assert [desk.passes(seat.gate(desk.route)) for _ in range(3)] == [True, True, False]
    assert desk.refusal(seat.gate(desk.route)).problem.extra["violated-policies"] == ["m"]


async def test_a_changed_window_keeps_what_was_used(desk: Any) -> None:
    desk.load(Plan("p", limits=(Limit("steady", 2, 10 * S),)))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    assert [desk.passes(seat.gate(desk.route)) for _ in range(2)] == [True, True]
    desk.load(Plan("p", limits=(Limit("steady", 2, 60 * S),)))
    desk.clock.advance(11)
    assert not desk.passes(seat.gate(desk.route))
    desk.clock.advance(49)
    assert desk.passes(seat.gate(desk.route))


async def test_a_missing_plan_never_means_unlimited(desk: Any) -> None:
    """unkeyed/unkey#403; krakend/krakend-ce#451 (field-bugs 8)."""
    desk.load(Plan("p"))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    assert desk.passes(seat.gate(desk.route))
    desk.load(Plan("q"))
    assert desk.refusal(seat.gate(desk.route)).problem.code == "plan_unknown"
    anonymous = desk.room.anonymous(Route("open", "/open", "api", auth="none", plan="p"))
    assert desk.refusal(anonymous).problem.status == 403


@pytest.mark.parametrize(
    ("state", "method", "code"),
    [
        (AccessState.CLOSED, "GET", "tenant_closed"),
        (AccessState.SUSPENDED, "GET", "payment_required"),
        (AccessState.READ_ONLY, "POST", "payment_required"),
        (AccessState.READ_ONLY, "HEAD", None),
        (AccessState.GRACE, "DELETE", None),
    ],
)
async def test_access_states(desk: Any, state: AccessState, method: str, code: str | None) -> None:
    desk.load(Plan("p"))
    gate = (await desk.room.seat(Principal("acme", "k", "p", state))).gate(desk.route)
    if code is None:
        assert desk.passes(gate, method=method)
    else:
        assert desk.refusal(gate, method=method).problem.code == code


async def test_features_and_scopes_gate_routes(desk: Any) -> None:
    desk.load(Plan("p", upgrade="https://example.com/plans"), Plan("q", features=frozenset({"ai"})))
    route = Route("ai", "/ai", "api", feature="ai", scopes=frozenset({"read", "write"}))
    refused = desk.refusal(await desk.gate(route=route)).problem
    assert (refused.status, refused.code) == (403, "feature_not_in_plan")
    assert "https://example.com/plans" in refused.detail
    narrow = (await desk.room.seat(Principal("acme", "k", "q", scopes=frozenset({"read"})))).gate(route)
    refused = desk.refusal(narrow).problem
    assert refused.code == "scope_missing"
    assert "write" in refused.detail
    assert desk.passes(await desk.gate("q", route=route))


async def test_test_keys_have_limits_of_their_own(desk: Any) -> None:
    sandbox = Plan("sandbox", limits=(Limit("steady", 1, 60 * S),))
    desk.load(Plan("p", limits=(Limit("steady", 2, 60 * S),), test_keys="sandbox"), Plan("none"), sandbox)
    test = (await desk.room.seat(Principal("acme", "t", "p", sandbox=True))).gate(desk.route)
    live = await desk.gate()
    on_sandbox_plan = await desk.gate("sandbox")
    assert [desk.passes(test) for _ in range(2)] == [True, False]
    assert [desk.passes(live) for _ in range(3)] == [True, True, False]
    assert desk.passes(on_sandbox_plan)
    without = (await desk.room.seat(Principal("acme", "t", "none", sandbox=True))).gate(desk.route)
    assert desk.refusal(without).problem.code == "test_keys_unavailable"


async def test_concurrency_is_freed_exactly_once(desk: Any) -> None:
    desk.load(Plan("p", concurrency=(Concurrency("parallel", 2),)))
    gate = await desk.gate()
    first, second = desk.ticket(gate), desk.ticket(gate)
    refused = desk.refusal(gate).problem
    assert (refused.status, refused.code) == (429, "concurrency_exceeded")
    assert ("Retry-After", "1") in refused.headers
    first.settle({})
    first.settle({})
    first.release()
    desk.ticket(gate)
    assert not desk.passes(gate)
    second.release()
    assert desk.passes(gate)


async def test_places_in_flight_survive_a_reload(desk: Any) -> None:
    desk.load(Plan("p", concurrency=(Concurrency("parallel", 1),)))
    ticket = desk.ticket(await desk.gate())
    desk.load(Plan("p", concurrency=(Concurrency("parallel", 2),)))
    gate = await desk.gate()
    desk.ticket(gate)
    assert not desk.passes(gate)
    ticket.release()
    assert desk.passes(gate)


async def test_units_weigh_and_too_heavy_a_request_can_never_pass(desk: Any) -> None:
    desk.load(Plan("p", limits=(Limit("steady", 10, 60 * S),)))
    heavy = await desk.gate(route=Route("heavy", "/h", "api", units=4))
    ticket = desk.ticket(heavy)
    assert ticket.units == 4
    assert [desk.passes(heavy) for _ in range(2)] == [True, False]
    monster = desk.refusal(await desk.gate(route=Route("monster", "/m", "api", units=11))).problem
    assert monster.status == 429
    assert "can never pass" in monster.detail
    assert "Retry-After" not in dict(monster.headers)


async def test_anonymous_callers_get_the_limits_of_the_routes_plan(desk: Any) -> None:
    desk.load(Plan("p", limits=(Limit("ip", 1, 60 * S, ("ip",)), Limit("all", 3, 60 * S))))
    gate = desk.room.anonymous(Route("open", "/open", "api", auth="none", plan="p"))
    assert [desk.passes(gate, ip=f"192.0.2.{n}") for n in (1, 1, 2, 3, 4)] == [True, False, True, True, False]
    assert desk.passes(await desk.gate(tenant="acme"), ip="192.0.2.9")
    free = desk.room.anonymous(Route("free", "/free", "api", auth="none"))
    assert all(desk.passes(free) for _ in range(100))
    assert desk.ticket(free).headers == b""


async def test_a_refusal_names_the_policy_and_the_way_out(desk: Any) -> None:
    plan = Plan(
        "p",
        limits=(Limit("burst", 2, S, ("key",), Origin("p.yaml", 7)), Limit("steady", 2, 60 * S)),
        upgrade="Write to sales.",
    )
    desk.load(plan)
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    gate = seat.gate(desk.route)
    desk.ticket(gate), desk.ticket(gate)
    desk.clock.advance(0.5)
    problem = desk.refusal(gate).problem
    assert (problem.status, problem.code) == (429, "limit_exceeded")
    assert problem.extra["violated-policies"] == ["burst", "steady"]
    assert problem.extra["policies"][0] == {
        "name": "burst",
        "kind": "limit",
        "scope": ["key"],
        "limit": 2,
        "window": "1s",
        "used": 2,
        "remaining": 0,
        "reset": 1,
    }
    assert '"steady"' in problem.detail
    assert problem.detail.endswith("Write to sales.")
    assert dict(problem.headers)["Retry-After"] == "60"
    assert b'"violated-policies":["burst","steady"]' in problem.body()
    burst = next(use for use in desk.room.usage_of("acme") if use.name == "burst")
    assert (burst.origin, burst.used, burst.remaining, burst.reset_s) == ("p.yaml:7", 2, 0, 1)


async def test_who_waits_as_told_passes(desk: Any) -> None:
    desk.load(
        Plan("p", limits=(Limit("a", 3, 7 * S), Limit("b", 5, 20 * S)), quotas=(Quota("q", "requests", 9, "hour"),))
    )
    gate = await desk.gate()
    passed = 0
    while passed < 20:
        outcome = gate.admit("GET", "192.0.2.1", lambda name: None)
        if isinstance(outcome, Ticket):
            outcome.settle({"requests": 1})
            passed += 1
            continue
        desk.clock.advance(int(dict(outcome.problem.headers)["Retry-After"]))
        assert desk.passes(gate)
        passed += 1


async def test_readings_count_by_plan_and_policy(desk: Any) -> None:
    desk.load(Plan("p", limits=(Limit("steady", 2, 60 * S),)))
    gate = await desk.gate()
    for _ in range(5):
        gate.admit("GET", "", lambda name: None)
    readings = desk.room.readings()
    assert readings.admitted_units == {"p": 2}
    assert readings.refused == {("p", "steady"): 3}
    assert readings.buckets == 1
