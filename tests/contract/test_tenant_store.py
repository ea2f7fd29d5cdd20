"""What every TenantStore must do."""

import dataclasses

import pytest

from sidecar.core.errors import Conflict, NotFound
from sidecar.core.ports import Ledger, Position, TenantStore
from sidecar.core.records import UsageRecord, encode_record
from sidecar.core.values import AccessState, Anchor, ApiKey, Override, Overrides, Tenant, Terms

ACME = Tenant("acme", "pro", AccessState.GRACE, "cus_1", 5)
KEY = ApiKey("k1", "acme", "ci", True, b"\x01" * 32, "p1", ("read", "write"), 10, 99)


async def test_a_tenant_is_returned_as_it_was_added(tenant_store: TenantStore) -> None:
    assert await tenant_store.tenant("acme") is None
    await tenant_store.add_tenant(ACME, actor="me")
    assert await tenant_store.tenant("acme") == ACME


async def test_a_name_is_taken_once_and_the_first_stays(tenant_store: TenantStore) -> None:
    await tenant_store.add_tenant(ACME, actor="me")
    with pytest.raises(Conflict, match="acme"):
        await tenant_store.add_tenant(Tenant("acme", "free"), actor="me")
    assert await tenant_store.tenant("acme") == ACME


async def test_names_that_look_alike_are_different_tenants(tenant_store: TenantStore) -> None:
    names = ["acme", "Acme", "acme ", "acme-1", "acme_1", "acme/1", "äcme", "'; DROP TABLE tenants; --", "a\0b", "a"]
    for name in names:
        await tenant_store.add_tenant(Tenant(name, "plan of " + name), actor="me")
    assert [(await tenant_store.tenant(name)).plan for name in names] == ["plan of " + name for name in names]


async def test_tenants_come_in_pages_by_name(tenant_store: TenantStore) -> None:
    for name in "dbca":
        await tenant_store.add_tenant(Tenant(name, "free"), actor="me")
    first = await tenant_store.tenants(limit=3)
    rest = await tenant_store.tenants(after=first[-1].name, limit=3)
    assert [tenant.name for tenant in first + rest] == list("abcd")


async def test_set_tenant_changes_what_is_given(tenant_store: TenantStore) -> None:
    await tenant_store.add_tenant(ACME, actor="me")
    moved = await tenant_store.set_tenant("acme", plan="scale", actor="me", at_ns=7)
    assert moved == dataclasses.replace(ACME, plan="scale")
    closed = await tenant_store.set_tenant("acme", state=AccessState.CLOSED, actor="me", at_ns=8)
    assert closed == await tenant_store.tenant("acme") == dataclasses.replace(moved, state=AccessState.CLOSED)
    with pytest.raises(NotFound, match="nobody"):
        await tenant_store.set_tenant("nobody", plan="pro", actor="me", at_ns=9)


@pytest.mark.parametrize(
    "key",
    [KEY, dataclasses.replace(KEY, scopes=None, expires_ns=None), dataclasses.replace(KEY, scopes=(), sandbox=False)],
)
async def test_a_key_is_returned_as_it_was_added(tenant_store: TenantStore, key: ApiKey) -> None:
    """The tenant need not be stored: it may be declared in policies/ alone."""
    assert await tenant_store.key("k1") is None
    await tenant_store.add_key(key, actor="me")
    assert await tenant_store.key("k1") == key
    with pytest.raises(Conflict, match="k1"):
        await tenant_store.add_key(dataclasses.replace(key, name="other"), actor="me")


async def test_keys_of_one_tenant_come_in_pages_by_id(tenant_store: TenantStore) -> None:
    for number in (3, 1, 2):
        await tenant_store.add_key(dataclasses.replace(KEY, id=f"k{number}"), actor="me")
    await tenant_store.add_key(dataclasses.replace(KEY, id="k0", tenant="other"), actor="me")
    first = await tenant_store.keys("acme", limit=2)
    rest = await tenant_store.keys("acme", after=first[-1].id, limit=2)
    assert [key.id for key in first + rest] == ["k1", "k2", "k3"]


@pytest.mark.parametrize(
    ("ends", "revoked_ns", "expires_ns"),
    [
        ([(50, True)], 50, 99),
        ([(50, True), (70, True)], 50, 99),
        ([(70, True), (50, True)], 50, 99),
        ([(50, False)], None, 50),
        ([(200, False)], None, 99),
        ([(50, False), (60, True)], 60, 50),
    ],
)
async def test_an_earlier_end_stays(
    tenant_store: TenantStore, ends: list[tuple[int, bool]], revoked_ns: int | None, expires_ns: int
) -> None:
    """Rotation with an overlap lets the old key expire; a revocation is never undone by it (field-bugs 31)."""
    await tenant_store.add_key(KEY, actor="me")
    for at_ns, revoked in ends:
        ended = await tenant_store.end_key("k1", at_ns=at_ns, revoked=revoked, actor="me")
    assert (ended.revoked_ns, ended.expires_ns) == (revoked_ns, expires_ns)
    assert await tenant_store.key("k1") == ended


async def test_ending_an_unknown_key_says_so(tenant_store: TenantStore) -> None:
    with pytest.raises(NotFound, match="k1"):
        await tenant_store.end_key("k1", at_ns=1, revoked=True, actor="me")


async def test_the_version_grows_with_changes_and_with_nothing_else(tenant_store: TenantStore, ledger: Ledger) -> None:
    seen = [await tenant_store.keys_version()]
    await tenant_store.add_tenant(ACME, actor="me")
    seen.append(await tenant_store.keys_version())
    await tenant_store.add_key(KEY, actor="me")
    seen.append(await tenant_store.keys_version())
    await tenant_store.set_tenant("acme", plan="free", actor="me", at_ns=1)
    seen.append(await tenant_store.keys_version())
    await tenant_store.end_key("k1", at_ns=1, revoked=True, actor="me")
    seen.append(await tenant_store.keys_version())
    assert seen == sorted(set(seen))
    with pytest.raises(Conflict):
        await tenant_store.add_key(KEY, actor="me")
    with pytest.raises(NotFound):
        await tenant_store.end_key("k2", at_ns=1, revoked=True, actor="me")
    event = "0193a5f0-0000-7000-8000-000000000001"
    used = UsageRecord(event, 9, "acme", "k1", "p", False, "r", "GET", 200, "ok", 1, 0, 0, 0, 0, 0, 0)
    await ledger.append([encode_record(used)], Position(1, 16))
    assert await tenant_store.keys_version() == seen[-1]


async def test_last_use_comes_with_the_batch_and_never_goes_back(tenant_store: TenantStore, ledger: Ledger) -> None:
    """Written through the journal, not per request. A key id that is no stored key (a JWT's subject) makes no row."""
    await tenant_store.add_key(KEY, actor="me")
    for number, (key_id, started_us) in enumerate([("k1", 50), ("k1", 70), ("jwt:someone", 90), ("k1", 60)]):
        event = f"0193a5f0-0000-7000-8000-{number:012d}"
        used = UsageRecord(event, started_us, "acme", key_id, "p", True, "r", "GET", 200, "ok", 1, 0, 0, 0, 0, 0, 0)
        await ledger.append([encode_record(used)], Position(1, 16 + number))
    assert (await tenant_store.key("k1")).last_used_ns == 70_000
    assert await tenant_store.key("jwt:someone") is None


async def test_a_tenants_own_terms_are_kept_and_replaced_as_a_whole(tenant_store: TenantStore) -> None:
    overrides = Overrides(
        limits={"steady": Override("steady", 7)}, quotas={"monthly": Override("monthly", overage="allow")}
    )
    own = dataclasses.replace(ACME, anchor=Anchor(31, 570), time_zone="Europe/Berlin", overrides=overrides)
    await tenant_store.add_tenant(own, actor="me")
    assert await tenant_store.tenant("acme") == own
    before = await tenant_store.keys_version()
    changed = await tenant_store.set_tenant("acme", terms=Terms(time_zone="Asia/Tokyo"), actor="me", at_ns=7)
    assert changed == dataclasses.replace(ACME, time_zone="Asia/Tokyo") == await tenant_store.tenant("acme")
    assert await tenant_store.keys_version() > before
    assert (await tenant_store.set_tenant("acme", plan="scale", actor="me", at_ns=8)).time_zone == "Asia/Tokyo"
    assert await tenant_store.set_tenant("acme", plan="pro", terms=Terms(), actor="me", at_ns=9) == ACME
