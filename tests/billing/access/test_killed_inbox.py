"""kill -9 before every statement of working off what Stripe told: the next process ends where none was killed."""

import asyncio
import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.clock import NS_PER_S
from sidecar.storage import SqliteStore
from tests.billing import mortal
from tests.billing.access.conftest import House

PATIENCE_S = 60


async def run(house: House, path: Path, die_at: int = 0) -> int:
    process = mortal.start_inbox(path, house.stripe.api, house.snapshot, wall_ns=house.clock.wall_ns(), die_at=die_at)
    await asyncio.to_thread(process.join, PATIENCE_S)
    code: int = process.exitcode
    assert code in (0, -9)
    return code


async def outcome(house: House, path: Path) -> tuple[Any, ...]:
    """Who there is, what they may, who is told, what is left."""
    store = SqliteStore.open(path)
    now_ns = house.clock.wall_ns() + 3_600 * NS_PER_S
    account, tenant = await store.account("acme"), await store.tenant("acme")
    notices = sorted(notice.id for notice in await store.due_notices(at_ns=now_ns, limit=1_000))
    left = await store.arrivals(at_ns=now_ns, limit=1_000)
    store.close()
    assert account is not None
    assert tenant is not None
    return account.access, account.plan, account.status, tenant.plan, notices, left


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.chaos)])
async def test_killed_before_every_statement_of_the_inbox(house: House, tmp_path: Path, step: int) -> None:
    """A checkout: one tenant, its access, each notice once, nothing left to do."""
    metadata = {"sidecar": "sidecar", "sidecar_tenant": "acme", "sidecar_plan": "pro"}
    house.fake.sessions.complete(house.checkout(**metadata)["id"])
    empty = tmp_path / "empty.db"
    SqliteStore.open(empty).close()
    whole = tmp_path / "whole.db"
    shutil.copy(empty, whole)
    assert await run(house, whole) == 0
    wanted = await outcome(house, whole)
    assert "tenant.created" in str(wanted)
    assert wanted[-1] == []
    for number in itertools.count(1, step):
        path = tmp_path / f"{number}.db"
        shutil.copy(empty, path)
        code = await run(house, path, number)
        assert await run(house, path) == 0
        assert await outcome(house, path) == wanted
        if code == 0:
            break
    assert number > 20, "an arrival is more statements than these"
