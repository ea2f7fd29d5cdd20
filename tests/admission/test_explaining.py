"""Explaining: what it says is what a request gets, and nothing is consumed by asking."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.admission import Admission, Asker, Explanation, Refused, Ticket
from sidecar.core.clock import ManualClock
from sidecar.core.policy import Concurrency, Limit, Meter, Origin, Plan, Quota, Route, Snapshot
from sidecar.core.values import AccessState, Principal
from tests.admission.store import FlakyStore

S = 1_000_000_000
METERS = {"requests": Meter("requests", "requests")}
PLAN = Plan(
    "free",
    limits=(
        Limit("burst", 4, S, ("key",), Origin("policies/plans.yaml", 7)),
        Limit("address", 6, 5 * S, ("ip",)),
        Limit("trial", 3, 5 * S, mode="shadow"),
    ),
    concurrency=(Concurrency("parallel", 3),),
    quotas=(Quota("daily", "requests", 9, "day"),),
)
WHO = Principal("acme", "k1", "free")
ROUTE = Route("search", "/search", "api", units=2)
FULL = Asker(ip="192.0.2.1")


async def _no_usage(*_: Any) -> int:
    return 0


def room_of(clock: ManualClock, plan: Plan = PLAN, limit_store: Any = None) -> Admission:
    room = Admission(clock, _no_usage, limit_store=limit_store)
    room.load(Snapshot(meters=METERS, plans={plan.name: plan}))
    return room


def code(said: Explanation) -> str | None:
    return None if said.answer is None else said.answer.problem.code


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["ask", "end", "wait", "long"]), max_size=40))
async def test_it_says_what_the_next_request_gets_and_changes_nothing(steps: list[str]) -> None:
    clock = ManualClock()
    room = room_of(clock)
    seat = await room.seat(WHO)
    gate = seat.gate(ROUTE)
    flying: list[Ticket] = []
    for step in steps:
        if step == "ask":
            before = room.usage_of("acme")
            said = await room.explain(WHO, ROUTE, FULL)
            assert room.usage_of("acme") == before
            counts = room.readings()
            trials = [one.policy.name for one in said.standings if one.refuses and one.policy.mode == "shadow"]
            decided = gate.admit("GET", "192.0.2.1", lambda _: None)
            assert code(said) == (decided.problem.code if isinstance(decided, Refused) else None)
            if isinstance(decided, Ticket):
                flying.append(decided)
                assert decided.marks == (b',"_shadow.trial?":1' if trials else b"")
            elif said.answer is not None:
                assert isinstance(decided, Refused)
                assert said.answer.problem.extra == decided.problem.extra
                assert dict(said.answer.problem.headers) == {
                    name: value for name, value in decided.problem.headers if name == "Retry-After"
                }
                assert room.readings().refused != counts.refused
        elif step == "end" and flying:
            flying.pop().settle({"requests": 1})
        else:
            clock.advance(5 if step == "long" else 0.4)


async def test_every_policy_stands_there_in_order_with_its_counter_and_its_line() -> None:
    said = await room_of(ManualClock()).explain(WHO, ROUTE, FULL)
    shown = [(one.policy.name, one.kind, one.policy.mode, one.bucket) for one in said.standings]
    assert shown == [
        ("burst", "limit", "enforce", 'free/burst key="k1"'),
        ("address", "limit", "enforce", 'free/address ip="192.0.2.1"'),
        ("parallel", "concurrency", "enforce", 'free/parallel tenant="acme"'),
        ("daily", "quota", "enforce", 'meter=requests tenant="acme" period=day'),
        ("trial", "limit", "shadow", 'free/trial tenant="acme"'),
    ]
    assert said.standings[0].use is not None
    assert said.standings[0].use.origin == "policies/plans.yaml:7"
    assert [check.name for check in said.checks] == ["state", "plan", "feature", "scopes"]


async def test_what_a_counter_depends_on_has_to_be_said_and_is_never_guessed() -> None:
    plan = Plan("free", limits=(Limit("each", 1, S, ("key", "ip", "header:x-org")), Limit("all", 2, S)))
    room = room_of(ManualClock(), plan)
    said = await room.explain(Principal("acme", "", "free"), ROUTE, Asker(key=False))
    assert said.standings[0].missing == ("key", "ip", "header:x-org")
    assert said.standings[0].use is None
    assert said.standings[1].use is not None
    assert room.readings().buckets == 1
    said = await room.explain(WHO, ROUTE, Asker(ip="2001:db8::1", headers={"x-org": 'a"b'}))
    assert said.standings[0].bucket == 'free/each key="k1" ip="2001:db8::/64" header:x-org="a\\"b"'


async def test_the_checks_before_the_policies_refuse_in_their_order() -> None:
    plan = Plan("free", features=frozenset({"export"}), limits=(Limit("none", 1, S),))
    room = room_of(ManualClock(), plan)
    route = Route("report", "/report", "api", feature="reports", scopes=frozenset({"read"}))

    async def said(route: Route, method: str = "GET", **more: Any) -> Explanation:
        return await room.explain(Principal("acme", "k", **({"plan": "free"} | more)), route, Asker(method))

    refused = await said(route, state=AccessState.SUSPENDED)
    assert (code(refused), refused.checks[0].code) == ("payment_required", "payment_required")
    assert refused.checks[2].says == "reports needed, export in the plan"
    assert code(await said(route)) == "feature_not_in_plan"
    scoped = Route("export", "/export", "api", feature="export", scopes=frozenset({"read"}))
    narrowed = await said(scoped, scopes=frozenset({"write"}))
    assert (code(narrowed), narrowed.checks[3].says) == ("scope_missing", "read needed, write on the key")
    assert code(await said(scoped)) is None
    unpaid = AccessState.READ_ONLY
    assert [code(await said(scoped, method, state=unpaid)) for method in ("GET", "POST")] == [None, "payment_required"]
    gone = await said(scoped, plan="old")
    assert (code(gone), gone.plan, gone.standings) == ("plan_unknown", None, ())


async def test_callers_without_a_key() -> None:
    room = room_of(ManualClock())
    said = await room.explain(None, Route("open", "/open", "api", auth="none", plan="free"), FULL)
    assert [one.bucket for one in said.standings][:2] == ["free/burst key=(none)", 'free/address ip="192.0.2.1"']
    said = await room.explain(None, Route("open", "/open", "api", auth="none"), FULL)
    assert (said.plan, said.standings, said.answer) == (None, (), None)


async def test_a_counter_that_others_share_says_so() -> None:
    clock = ManualClock()
    room = Admission(clock, _no_usage, max_buckets=1)
    room.load(Snapshot(plans={"free": Plan("free", limits=(Limit("each", 5, S, ("ip",)),))}))
    gate = (await room.seat(WHO)).gate(ROUTE)
    for number in range(2):
        gate.admit("GET", f"192.0.2.{number}", lambda _: None)
    said = await room.explain(WHO, ROUTE, Asker(ip="192.0.2.9"))
    assert said.standings[0].bucket == "free/each ip=(shared by those for whom there was no counter)"


SHARED = Plan("free", limits=(Limit("steady", 10, 60 * S),))


async def test_what_other_nodes_used_is_asked_of_the_store_and_nothing_is_taken() -> None:
    clock = ManualClock()
    store = FlakyStore(clock)
    other, room = room_of(clock, SHARED, store), room_of(clock, SHARED, store)
    gate = (await other.seat(WHO)).gate(ROUTE)
    for _ in range(4):
        pending = gate.admit("GET", "192.0.2.1", lambda _: None)
        assert isinstance(pending if isinstance(pending, Ticket) else await pending.wait(), Ticket)  # type: ignore[union-attr] # not refused
    for _ in range(3):
        said = await room.explain(WHO, ROUTE, FULL)
        assert said.shared is True
        assert said.standings[0].use is not None
        assert (said.standings[0].use.used, said.standings[0].leased, code(said)) == (8, 0, None)
    heavy = Route("heavy", "/heavy", "api", units=3)
    said = await room.explain(WHO, heavy, FULL)
    assert said.answer is not None
    assert said.answer.problem.code == "limit_exceeded"
    assert dict(said.answer.problem.headers)["Retry-After"] == "61"
    await other.close()
    await room.close()


async def test_without_the_store_each_limit_says_what_it_would_do() -> None:
    for says, expected in (("deny", "limits_unavailable"), ("allow", None), ("local", None)):
        clock = ManualClock()
        store = FlakyStore(clock)
        room = room_of(clock, Plan("free", limits=(Limit("steady", 30, 60 * S, on_store_error=says),)), store)
        store.down = True
        said = await room.explain(WHO, ROUTE, FULL)
        assert (said.shared, code(said)) == (False, expected)
        heavy = Route("heavy", "/heavy", "api", units=4)
        gate = (await room.seat(WHO)).gate(heavy)
        pending = gate.admit("GET", "192.0.2.1", lambda _: None)
        decided = await pending.wait()  # type: ignore[union-attr] # it has to ask
        said = await room.explain(WHO, heavy, FULL)
        assert code(said) == (decided.problem.code if isinstance(decided, Refused) else None)
        await room.close()


async def test_a_refusal_tells_callers_what_they_must_keep_to_and_nothing_of_the_operator() -> None:
    """No file, no line, no counter's key, no store, nothing of what is in shadow mode."""
    gate = (await room_of(ManualClock()).seat(WHO)).gate(ROUTE)
    decided = [gate.admit("GET", "192.0.2.1", lambda _: None) for _ in range(3)]
    assert isinstance(decided[-1], Refused)
    extra = decided[-1].problem.extra
    assert extra.keys() == {"violated-policies", "policies", "plan", "units"}
    assert [set(member) for member in extra["policies"]] == [
        {"name", "kind", "scope", "limit", "used", "remaining", "window", "reset"}
    ]
    text = decided[-1].problem.body().decode() + repr(decided[-1].problem.headers)
    assert not any(word in text for word in ("plans.yaml", "trial", "shadow", "k1", "on_store_error"))
