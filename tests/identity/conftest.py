"""A tenant store in a dictionary: the fake at the port. It counts what it is asked and can stall or fail."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import Conflict, NotFound, StoreError
from sidecar.core.values import AccessState, ApiKey, Tenant, Terms
from sidecar.identity import MintedKey, Peppers, new_key


class DictStore:
    def __init__(self) -> None:
        self.by_name: dict[str, Tenant] = {}
        self.by_id: dict[str, ApiKey] = {}
        self.version = 1
        self.key_reads = 0
        self.tenant_reads = 0
        self.down = False
        self.gate: asyncio.Event | None = None
        self.read = asyncio.Event()  # a row was read and now waits at the gate

    def _up(self) -> None:
        if self.down:
            raise StoreError("the store is down")

    async def tenant(self, name: str) -> Tenant | None:
        self._up()
        self.tenant_reads += 1
        return self.by_name.get(name)

    async def tenants(self, *, after: str = "", limit: int = 100) -> list[Tenant]:
        return [self.by_name[name] for name in sorted(self.by_name) if name > after][:limit]

    async def add_tenant(self, tenant: Tenant, *, actor: str) -> None:
        if tenant.name in self.by_name:
            raise Conflict(tenant.name)
        self.by_name[tenant.name] = tenant
        self.version += 1

    async def set_tenant(
        self,
        name: str,
        *,
        plan: str | None = None,
        state: AccessState | None = None,
        terms: Terms | None = None,
        actor: str,
        at_ns: int,
    ) -> Tenant:
        if name not in self.by_name:
            raise NotFound(name)
        old = self.by_name[name]
        own = old.terms if terms is None else terms
        changed = {"anchor": own.anchor, "time_zone": own.time_zone, "overrides": own.overrides}
        self.by_name[name] = replace(old, plan=plan or old.plan, state=state or old.state, **changed)
        self.version += 1
        return self.by_name[name]

    async def key(self, key_id: str) -> ApiKey | None:
        self._up()
        self.key_reads += 1
        row = self.by_id.get(key_id)
        self.read.set()
        if self.gate is not None:
            await self.gate.wait()
        return row

    async def keys(self, tenant: str, *, after: str = "", limit: int = 100) -> list[ApiKey]:
        rows: Sequence[ApiKey] = [row for row in self.by_id.values() if row.tenant == tenant and row.id > after]
        return sorted(rows, key=lambda row: row.id)[:limit]

    async def add_key(self, key: ApiKey, *, actor: str) -> None:
        if key.id in self.by_id:
            raise Conflict(key.id)
        self.by_id[key.id] = key
        self.version += 1

    async def end_key(self, key_id: str, *, at_ns: int, revoked: bool, actor: str) -> ApiKey:
        if key_id not in self.by_id:
            raise NotFound(key_id)
        row = self.by_id[key_id]
        row = replace(row, revoked_ns=at_ns) if revoked else replace(row, expires_ns=at_ns)
        self.by_id[key_id] = row
        self.version += 1
        return row

    async def keys_version(self) -> int:
        self._up()
        return self.version


class Shop:
    """A store with the tenant ``acme`` on ``pro``, a clock, peppers, and a way to sell keys."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = DictStore()
        self.store.by_name["acme"] = Tenant("acme", "pro")
        self.peppers = Peppers({"p1": "a pepper for the tests only"})

    def sell(
        self,
        *,
        tenant: str = "acme",
        sandbox: bool = False,
        scopes: tuple[str, ...] | None = None,
        seconds: float | None = None,
        peppers: Peppers | None = None,
    ) -> MintedKey:
        now = self.clock.wall_ns()
        expires = None if seconds is None else now + round(seconds * 1e9)
        row, minted = new_key(
            peppers or self.peppers,
            "sc",
            tenant=tenant,
            name="ci",
            sandbox=sandbox,
            scopes=scopes,
            expires_ns=expires,
            now_ns=now,
        )
        self.store.by_id[row.id] = row
        self.store.version += 1
        return minted


@pytest.fixture
def shop() -> Shop:
    return Shop()
