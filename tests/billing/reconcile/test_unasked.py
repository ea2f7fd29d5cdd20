"""Served for a price and asked for nothing: that is said."""

from fractions import Fraction
from pathlib import Path

from sidecar.billing.reconcile import unasked_tenants
from sidecar.core.accounts import Account
from sidecar.core.billing import Period
from sidecar.core.money import Money
from sidecar.core.policy import Plan, Price, Settings, Snapshot
from sidecar.core.values import AccessState, Tenant
from sidecar.storage import SqliteStore

PLANS = {"free": Plan("free"), "pro": Plan("pro", price=Price(Money(Fraction(29), "USD")))}


async def test_who_has_a_price_and_no_subscription(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a.db")
    for name, plan in (("buyer", "pro"), ("guest", "free"), ("owing", "pro"), ("closed", "pro"), ("former", "pro")):
        await store.add_tenant(Tenant(name, plan), actor="test")
    await store.set_tenant("closed", plan=None, state=AccessState.CLOSED, actor="test", at_ns=1)
    for name in ("buyer", "former"):
        account = Account(name, f"cus_{name}", "sub_1", "active", periods=(Period(0, 10**9),), read_ns=1)
        await store.save_account(account, actor="test", at_ns=1)
    await store.save_account(Account("declared", "cus_9", read_ns=1), actor="test", at_ns=1)
    declared = {"declared": Tenant("declared", "pro", stripe_customer="cus_9"), "ours": Tenant("ours", "free")}
    assert await unasked_tenants(store, Snapshot(Settings(), plans=PLANS, tenants=declared)) == ["declared", "owing"]
    store.close()
