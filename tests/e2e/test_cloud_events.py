"""Usage to a receiver of CloudEvents, and to one that speaks Lago's form: the real process, killed, and a receiver that
fails."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.ports import Position
from sidecar.storage import SqliteStore
from tests.billing.records import used
from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, Sidecar, write_config
from tests.e2e.receiver import Receiver

POLICIES = """\
meters: {requests: {count: requests, stripe_event: api_requests}, tokens: {count: units, stripe_event: api_tokens}}
routes: [{name: all, match: {path: "/{rest...}"}}]
plans: {pro: {limits: [{name: fast, limit: 5000, window: 1m, scope: [tenant]}]}}
tenants: {acme: {plan: pro}, zeta: {plan: pro}}
"""
TENANTS = ("acme", "zeta")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


def use(sidecar: Sidecar, at_s: int) -> dict[tuple[str, str], int]:
    """As if both tenants had called then, while no sidecar runs: what the receiver has to have."""

    async def work() -> None:
        store = SqliteStore.open(sidecar.data / "sidecar.db")
        records = [used(n, at_s + n, tenant=TENANTS[n % 2], requests=1, tokens=10 + n) for n in range(1, 9)]
        await store.append(records, Position(1, 16))
        store.close()

    asyncio.run(work())
    tokens = {"acme": sum(10 + n for n in (2, 4, 6, 8)), "zeta": sum(10 + n for n in (1, 3, 5, 7))}
    return {
        **{("api_requests", tenant): 4 for tenant in TENANTS},
        **{("api_tokens", tenant): tokens[tenant] for tenant in TENANTS},
    }


def books(sidecar: Sidecar, at_s: int) -> list[dict[str, Any]]:
    """The report's lines, of the month in which this time lies."""
    month = [datetime.fromtimestamp(second, UTC).month for second in (at_s, time.time())]
    words = ("reconcile", "--json", "--period", "current" if month[0] == month[1] else "previous")
    lines: list[dict[str, Any]] = json.loads(sidecar.cli(*words).stdout)["lines"]
    return lines


@pytest.mark.parametrize("form", ["cloudevents", pytest.param("lago", marks=pytest.mark.chaos)])
def test_each_event_counts_once_over_kills_and_a_receiver_that_fails(
    make: Make, api: Api, receiver: Receiver, tmp_path: Path, form: str
) -> None:
    """500, connections cut before and after an event was taken, SIGKILL between taking and answering."""
    more = f"billing: {{window: 1m, cloud_events: {{url: '{receiver.url}/{form}', format: {form}}}}}\n"
    sidecar = make(*write_config(tmp_path, api.url, POLICIES, more))
    at_s = int(time.time()) // 60 * 60 - 1_200
    sidecar.start()
    end = time.monotonic() + PATIENCE_S
    while {line["tenant"] for line in books(sidecar, at_s)} != set(TENANTS):
        assert time.monotonic() < end, sidecar.errors
    sidecar.kill()
    wanted = use(sidecar, at_s)
    receiver.pid = lambda: sidecar.pid
    receiver.faults.extend(["500", "cut", "lost", "kill"])
    sidecar.launch()
    assert sidecar.wait() == -9
    assert not receiver.faults
    receiver.faults.extend(["lost", "500"])
    sidecar.start()
    end = time.monotonic() + PATIENCE_S
    while any(line["accepted"] != line["ledger"] or not line["ledger"] for line in books(sidecar, at_s)):
        assert time.monotonic() < end, (receiver.asked, sidecar.errors)
    assert receiver.sums() == wanted
    assert {(line["event_name"], line["tenant"]): line["ledger"] for line in books(sidecar, at_s)} == wanted
    assert receiver.differing == []
    assert len(receiver.taken) == len(wanted)
    assert sum(receiver.asked.values()) == len(wanted) + 6, "an event was sent again without a need"
    assert sidecar.stop() == 0
