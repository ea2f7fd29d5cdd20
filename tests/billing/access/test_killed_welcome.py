"""kill -9 before every statement of showing a first key: who asks again has it, and nobody else ever does."""

import asyncio
import itertools
import shutil
from pathlib import Path

import pytest

from sidecar.identity import matches
from sidecar.storage import SqliteStore
from tests.billing import mortal
from tests.billing.access.conftest import House

PATIENCE_S = 60
BROWSER, STRANGER = "b" * 32, "s" * 32


async def run(house: House, path: Path, session: str, token: str, die_at: int = 0) -> tuple[int, list[str]]:
    """The exit code, and what this browser was shown."""
    shown = path.with_suffix(f".{token[0]}")
    words = (session, token)
    now_ns = house.clock.wall_ns()
    process = mortal.start_welcome(path, house.stripe.api, house.snapshot, words, shown, wall_ns=now_ns, die_at=die_at)
    await asyncio.to_thread(process.join, PATIENCE_S)
    code: int = process.exitcode
    assert code in (0, -9)
    return code, shown.read_text().split() if shown.exists() else []


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.chaos)])
async def test_killed_before_every_statement_of_showing_the_first_key(house: House, tmp_path: Path, step: int) -> None:
    """Asked again, the browser has a key that works, the same as whatever it was shown before; a stranger with the same
    link has none, whether it comes between or afterwards."""
    metadata = {"sidecar": "sidecar", "sidecar_tenant": "acme", "sidecar_plan": "pro"}
    session = str(house.checkout(**metadata)["id"])
    house.fake.sessions.complete(session)
    empty = tmp_path / "empty.db"
    SqliteStore.open(empty).close()
    points = {"nothing": 0, "made": 0, "shown": 0}
    for number in itertools.chain([-1], itertools.count(1, step)):
        path = tmp_path / f"{number}.db"
        shutil.copy(empty, path)
        code, seen = await run(house, path, session, BROWSER, number)
        made = await keys_of(path)
        points["shown" if seen else "made" if made else "nothing"] += 1
        if made:
            assert (await run(house, path, session, STRANGER))[1] == ["shown"]
        ended, keys = await run(house, path, session, BROWSER)
        assert (ended, len(set(keys))) == (0, 1)
        assert (await run(house, path, session, STRANGER))[1][-1] == "shown"
        await works(path, keys[0])
        if code == 0:
            break
    assert min(points.values()) > 0, points
    assert number > 20, "a first key is more statements than these"


async def keys_of(path: Path) -> int:
    store = SqliteStore.open(path)
    found = await store.keys("acme")
    store.close()
    return len(found)


async def works(path: Path, key: str) -> None:
    store = SqliteStore.open(path)
    (row,) = await store.keys("acme")
    store.close()
    assert matches(mortal.PEPPERS, row, key.encode())
    assert row.revoked_ns is None
    everything = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    assert key.encode() not in everything, "nothing in clear at rest"
    assert BROWSER.encode() not in everything
