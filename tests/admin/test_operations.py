"""What operators can do to tenants and keys, and what they are told when they cannot."""

from typing import Any

import pytest

from sidecar.core.errors import Conflict, NotFound
from sidecar.core.ports import UsageTotals

DAY_US = 86_400_000_000


async def acme(world: Any, plan: str = "pro") -> None:
    await world.operations.tenants_add("acme", plan, actor="me")


async def test_a_tenant_is_added_shown_and_changed(world: Any) -> None:
    added = await world.operations.tenants_add("acme", "free", actor="me")
    assert added == {
        "name": "acme",
        "plan": "free",
        "state": "active",
        "stripe_customer": None,
        "created": "2025-10-09T08:53:20Z",
        "source": "store",
    }
    assert await world.operations.tenants_show("acme") == added | {"payment": None}
    changed = await world.operations.tenants_set("acme", plan="pro", state="suspended", actor="me")
    assert (changed["plan"], changed["state"]) == ("pro", "suspended")
    assert world.changes == [("acme", None), ("acme", None)]
    assert world.store.audit == [("me", "add_tenant"), ("me", "set_tenant")]


async def test_an_unknown_plan_names_the_nearest_and_all(world: Any) -> None:
    with pytest.raises(ValueError, match=r"no plan 'por'; did you mean pro\? Plans: free, pro, sandbox"):
        await world.operations.tenants_add("acme", "por", actor="me")
    await acme(world)
    with pytest.raises(ValueError, match="no plan 'gold'; Plans: free, pro, sandbox"):
        await world.operations.tenants_set("acme", plan="gold", actor="me")


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a\n", "ä", "x" * 65])
async def test_names_that_could_not_be_headers_are_refused(world: Any, name: str) -> None:
    with pytest.raises(ValueError, match="is not a tenant's name"):
        await world.operations.tenants_add(name, "pro", actor="me")


async def test_names_are_taken_once_there_or_in_the_policies(world: Any) -> None:
    await acme(world)
    with pytest.raises(Conflict):
        await acme(world)
    with pytest.raises(Conflict, match="declared in the policies"):
        await world.operations.tenants_add("declared", "pro", actor="me")


async def test_a_declared_tenant_is_listed_and_has_keys_but_cannot_be_set(world: Any) -> None:
    assert (await world.operations.tenants_show("declared"))["source"] == "policies"
    made = await world.operations.keys_create("declared", "ci", actor="me")
    assert [key["id"] for key in (await world.operations.keys_list("declared"))["keys"]] == [made["id"]]
    with pytest.raises(Conflict, match="change it there"):
        await world.operations.tenants_set("declared", plan="pro", actor="me")


async def test_a_change_needs_something_to_change_and_a_known_state(world: Any) -> None:
    await acme(world)
    with pytest.raises(ValueError, match="nothing to change"):
        await world.operations.tenants_set("acme", actor="me")
    with pytest.raises(ValueError, match="write one of active, grace, read_only, suspended, closed"):
        await world.operations.tenants_set("acme", state="dead", actor="me")
    with pytest.raises(NotFound):
        await world.operations.tenants_set("ghost", plan="pro", actor="me")


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7, 100])
async def test_pages_hold_every_tenant_once_in_order(world: Any, limit: int) -> None:
    """A list is one paged query, however long it is (litellm#2171)."""
    names = ["a", "b", "declarec", "e", "z"]
    for name in names:
        await world.operations.tenants_add(name, "free", actor="me")
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await world.operations.tenants_list(after=after, limit=limit)
        assert len(page["tenants"]) <= limit
        seen += [tenant["name"] for tenant in page["tenants"]]
        after = page["next"]
    assert seen == sorted([*names, "declared"])


@pytest.mark.parametrize("limit", [0, -1, 1_001])
async def test_pages_are_bounded(world: Any, limit: int) -> None:
    with pytest.raises(ValueError, match="limit must be from 1 to 1000"):
        await world.operations.tenants_list(limit=limit)
    with pytest.raises(ValueError, match="limit must be from 1 to 1000"):
        await world.operations.keys_list("declared", limit=limit)


async def test_a_key_is_shown_once(world: Any) -> None:
    await acme(world)
    made = await world.operations.keys_create("acme", "ci", scopes=["read", "read"], expires="90d", actor="me")
    assert made["key"] == "sc_live_k001secret"
    assert made["scopes"] == ["read"]
    assert made["expires"] == "2026-01-07T08:53:20Z"
    assert made["warnings"] == []
    listed = (await world.operations.keys_list("acme"))["keys"]
    assert "secret" not in str(listed)
    assert listed[0]["status"] == "active"


async def test_what_is_wrong_with_a_new_key_is_said(world: Any) -> None:
    await acme(world)
    with pytest.raises(NotFound, match="no tenant 'ghost'"):
        await world.operations.keys_create("ghost", "ci", actor="me")
    with pytest.raises(ValueError, match="is not a key's name"):
        await world.operations.keys_create("acme", "", actor="me")
    with pytest.raises(ValueError, match="is not a scope"):
        await world.operations.keys_create("acme", "ci", scopes=["a b"], actor="me")
    for expires in ("soon", "0s", "999999w"):
        with pytest.raises(ValueError, match="write"):
            await world.operations.keys_create("acme", "ci", expires=expires, actor="me")
    assert (await world.operations.keys_list("acme"))["keys"] == []


async def test_a_test_key_that_the_plan_cannot_use_is_made_with_a_warning(world: Any) -> None:
    assert (await world.operations.keys_create("declared", "ci", test=True, actor="me"))["warnings"] == [
        "plan free has no test_keys; requests with this key will be refused"
    ]
    await acme(world)
    assert (await world.operations.keys_create("acme", "ci", test=True, actor="me"))["warnings"] == []


async def test_a_revoked_key_stays_revoked_and_caches_are_told(world: Any) -> None:
    await acme(world)
    made = await world.operations.keys_create("acme", "ci", actor="me")
    world.clock.advance(5)
    first = await world.operations.keys_revoke(made["id"], actor="me")
    world.clock.advance(5)
    assert first["status"] == "revoked"
    assert await world.operations.keys_revoke(made["id"], actor="me") == first
    assert world.changes[-1] == ("acme", made["id"])
    with pytest.raises(NotFound):
        await world.operations.keys_revoke("nope", actor="me")


async def test_a_rotated_key_works_through_the_overlap(world: Any) -> None:
    """awslabs/aws-api-gateway-developer-portal#162: keys rotate without an outage."""
    await acme(world)
    old = await world.operations.keys_create("acme", "ci", test=True, scopes=["a"], expires="90d", actor="me")
    world.clock.advance(86_400)
    new = await world.operations.keys_rotate(old["id"], overlap="1h", actor="me")
    assert (new["name"], new["test"], new["scopes"]) == ("ci", True, ["a"])
    assert new["expires"] == "2026-01-08T08:53:20Z"
    assert new["replaces"]["status"] == "active"
    world.clock.advance(3_599)
    status = {key["id"]: key["status"] for key in (await world.operations.keys_list("acme"))["keys"]}
    assert status == {old["id"]: "active", new["id"]: "active"}
    world.clock.advance(1)
    status = {key["id"]: key["status"] for key in (await world.operations.keys_list("acme"))["keys"]}
    assert status == {old["id"]: "expired", new["id"]: "active"}


async def test_an_overlap_of_nothing_revokes_at_once(world: Any) -> None:
    await acme(world)
    old = await world.operations.keys_create("acme", "ci", actor="me")
    new = await world.operations.keys_rotate(old["id"], overlap="0s", actor="me")
    assert new["replaces"]["status"] == "revoked"
    with pytest.raises(Conflict, match="is revoked and cannot be rotated"):
        await world.operations.keys_rotate(old["id"], actor="me")
    with pytest.raises(NotFound):
        await world.operations.keys_rotate("nope", actor="me")


async def test_usage_is_asked_on_whole_minutes_after_the_ledger_caught_up(world: Any) -> None:
    await acme(world)
    world.ledger.totals = UsageTotals(250, 500, 1_234, 10, 20, 30, 25)
    world.ledger.meters = {"requests": 121}
    report = await world.operations.usage("acme")
    now_us = world.clock.wall_ns() // 1_000
    assert world.flushes == 1
    ((since_us, until_us),) = world.ledger.asked
    assert since_us % 60_000_000 == until_us % 60_000_000 == 0
    assert since_us <= now_us - DAY_US < since_us + 60_000_000
    assert until_us - 60_000_000 < now_us <= until_us
    assert (report["requests"], report["units"], report["cost"]) == (250, 500, 1_234)
    assert (report["cost_unit"], report["currency"]) == ("micros", "EUR")
    assert report["routes"]["search"]["requests"] == report["statuses"]["2xx"]["requests"] == 250
    assert report["meters"] == {"requests": 121}
    assert report["month"] == {"period": "2025-10", "price": "30.05 USD", "meters": {"requests": 121}}


async def test_usage_takes_instants_too(world: Any) -> None:
    await world.operations.usage("declared", since="2025-10-01T00:00:00Z", until="2025-10-02")
    assert world.ledger.asked == [(1_759_276_800_000_000, 1_759_363_200_000_000)]
    for since in ("yesterday", "1 fortnight", "2030-01-01", ""):
        with pytest.raises(ValueError, match=r"time|before"):
            await world.operations.usage("declared", since=since)


async def test_a_removed_tenant_keeps_its_usage_and_a_ghost_has_none(world: Any) -> None:
    with pytest.raises(NotFound):
        await world.operations.usage("ghost")
    world.ledger.totals = UsageTotals(1)
    report = await world.operations.usage("ghost")
    assert report["requests"] == 1
    assert "month" not in report
