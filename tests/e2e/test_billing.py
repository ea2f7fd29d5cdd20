"""Usage end to end: the real process, killed where it hurts, the fake Stripe, and the books compared by the command."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.ports import Position
from sidecar.storage import PostgresStore, SqliteStore
from tests.billing.killer import POINTS
from tests.billing.records import used
from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, Sidecar, call, write_config
from tests.e2e.stripe import RESTRICTED, Stripe
from tests.storage.postgres.server import shared_server

POLICIES = """\
meters: {requests: {count: requests, stripe_event: api_requests}, tokens: {count: units, stripe_event: api_tokens}}
routes: [{name: all, match: {path: "/{rest...}"}}]
plans:
  pro: {price: {base: "29.00 USD", meters: {requests: {amount: "0.01 USD"}, tokens: {amount: "0.02 USD"}}}}
tenants: {acme: {plan: pro, stripe_customer: CUSTOMER}}
"""
TAKEOVER_S = 90


def subscribed(stripe: Stripe, *, since_s: int = 7_200) -> str:
    """A customer who has pro since two hours ago."""

    def work(fake: Any) -> str:
        customer = str(fake.customer(name="acme"))
        prices = [p["id"] for p in fake.world.prices.values() if str(p["lookup_key"]).startswith("sidecar:pro:")]
        items = [{"price": price} for price in prices]
        start = int(time.time()) - since_s
        fake.subscriptions.create({"customer": customer, "items": items, "backdate_start_date": start})
        return customer

    return stripe.do(work)


class House:
    """A sidecar that reports to the fake, and what it has to report. ``used``: by meter."""

    def __init__(self, sidecar: Sidecar, stripe: Stripe, storage: str) -> None:
        self.sidecar, self.stripe, self.storage = sidecar, stripe, storage
        self.customer = ""
        self.used = {"requests": 0, "tokens": 0}
        self._number = 0

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[SqliteStore | PostgresStore]:
        if self.storage:
            store = await PostgresStore.open(os.environ["DATABASE_URL"], journal="e2e")
            yield store
            await store.close()
        else:
            lite = SqliteStore.open(self.sidecar.data / "sidecar.db")
            yield lite
            lite.close()

    def use(self, tokens: int) -> None:
        """As if acme had called so much an hour ago; while no sidecar runs."""

        async def work() -> None:
            self._number += 1
            at_s = int(time.time()) - 5_400 + 60 * self._number
            record = used(self._number, at_s, requests=1, tokens=tokens)
            async with self.store() as store:
                await store.append([record], Position(self._number, 16))

        asyncio.run(work())
        self.used["requests"] += 1
        self.used["tokens"] += tokens

    def billed(self) -> dict[str, int]:
        """What Stripe has of acme."""

        def work(fake: Any) -> dict[str, int]:
            far = time.time_ns() + 10**12
            return {m: int(fake.summary(f"api_{m}", self.customer, 0, 2**33, far)) for m in self.used}

        return self.stripe.do(work)

    def reported(self) -> None:
        """Asks until Stripe has what was used, no more and no less, and the sidecar says the same."""
        end = time.monotonic() + 3 * PATIENCE_S
        lines: dict[str, Any] = {}
        while (
            not all(line["payee"] and line["accepted"] + line["verified"] == line["payee"] for line in lines.values())
            or not lines
        ):
            assert time.monotonic() < end, (lines, self.sidecar.errors)
            report = json.loads(self.sidecar.cli("reconcile", "--json").stdout)
            lines = {line["meter"]: line for line in report["lines"]}
        assert self.billed() == self.used
        assert {meter: line["ledger"] for meter, line in lines.items()} == self.used
        assert {meter: line["payee"] for meter, line in lines.items()} == self.used


@pytest.fixture
def house(storage: str, make: Make, api: Api, stripe: Stripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("STRIPE_KEY", "sk_test_fake")
    more = f"{storage}billing: {{window: 1m, stripe: {{api_key: '${{STRIPE_KEY}}', api: '{stripe.url}'}}}}\n"
    words = write_config(tmp_path, api.url, POLICIES.replace("CUSTOMER", "cus_later"), more)
    sidecar = make(*words)
    sidecar.cli("stripe", "apply")
    made = House(sidecar, stripe, storage)
    made.customer = subscribed(stripe)
    write_config(tmp_path, api.url, POLICIES.replace("CUSTOMER", made.customer), more)
    return made


def started(house: House) -> None:
    """Once, so that it knows the subscription."""
    house.sidecar.start()
    end = time.monotonic() + PATIENCE_S
    status = ""
    while status != "active":
        assert time.monotonic() < end, house.sidecar.errors
        shown = json.loads(house.sidecar.cli("tenants", "show", "acme", "--json").stdout)
        status = (shown["payment"] or {}).get("status", "")


@pytest.mark.parametrize("points", [("done", "half"), pytest.param(POINTS * 4, marks=pytest.mark.chaos)])
def test_killed_in_the_middle_of_a_report(house: House, points: tuple[str, ...]) -> None:
    """SIGKILL of the whole process while Stripe reads, has taken, or answers an event; the next one goes on at once,
    and the sum is the ledger's in the end."""
    started(house)
    house.sidecar.kill()
    for number, point in enumerate(points):
        house.use(100 + number)
        house.sidecar.launch()
        house.stripe.killer.aim(house.sidecar.pid, 1 + number % 2, point)
        assert house.sidecar.wait() == -9
    assert house.stripe.killer.killed == len(points)
    house.sidecar.start()
    house.reported()
    assert house.sidecar.stop() == 0


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("sk_test_wrong_one", "Stripe does not take the API key"),
        (RESTRICTED, "the API key lacks a permission: Meter events: Write (rak_billing_meter_event_write)"),
    ],
)
def test_a_key_that_is_wrong_or_may_not_is_named_and_calls_are_served(
    make: Make, api: Api, stripe: Stripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, said: str
) -> None:
    more = f"billing: {{window: 1m, stripe: {{api_key: '${{STRIPE_KEY}}', api: '{stripe.url}'}}}}\n"
    sidecar = make(*write_config(tmp_path, api.url, POLICIES.replace("CUSTOMER", "cus_1"), more))
    monkeypatch.setenv("STRIPE_KEY", "sk_test_fake")
    sidecar.cli("stripe", "apply")
    monkeypatch.setenv("STRIPE_KEY", key)
    caller = sidecar.another_key("acme")
    sidecar.start()
    end, told = time.monotonic() + PATIENCE_S, ""
    while said not in told:
        assert time.monotonic() < end, told
        assert call(sidecar.base, "GET", "/echo", caller).status == 200
        ready = call(sidecar.admin, "GET", "/readyz")
        assert ready.status == 200
        told = " ".join(ready.json()["warnings"])
    assert key not in told + sidecar.errors


def test_a_wrong_key_ends_each_command_with_a_sentence(
    make: Make, api: Api, stripe: Stripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = f"billing: {{stripe: {{api_key: '${{STRIPE_KEY}}', api: '{stripe.url}'}}}}\n"
    sidecar = make(*write_config(tmp_path, api.url, POLICIES.replace("CUSTOMER", "cus_1"), more))
    monkeypatch.setenv("STRIPE_KEY", "sk_test_wrong_one")
    words = [
        ("plan",),
        ("apply",),
        ("drift",),
        ("selftest",),
        ("portal", "acme"),
        ("checkout", "acme", "--plan", "pro"),
    ]
    for command in words:
        more_words = ("--success-url", "https://x.example/") if command[0] == "checkout" else ()
        done = sidecar.cli("stripe", *command, *more_words, code=1)
        assert "Stripe does not take the API key" in done.stderr, command
    monkeypatch.delenv("STRIPE_KEY")
    done = sidecar.cli("stripe", "plan", code=2)
    assert "the environment variable STRIPE_KEY is not set" in done.stderr


def leads(node: Sidecar) -> int:
    """1: this node reports."""
    text = call(node.admin, "GET", "/metrics").body.decode()
    return next(int(float(line.split()[1])) for line in text.splitlines() if line.startswith("sidecar_billing_leader "))


@pytest.mark.chaos
def test_another_node_follows_one_that_was_killed_in_the_middle_of_a_report(
    make: Make, api: Api, stripe: Stripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes on one PostgreSQL: one of them reports; killed, the other one does within a minute."""
    monkeypatch.setenv("STRIPE_KEY", "sk_test_fake")
    monkeypatch.setenv("PEPPER", "0123456789abcdef0123456789abcdef")
    with shared_server() as server:
        database = server.migrated()
        monkeypatch.setenv("DATABASE_URL", database.url)
        storage = "storage: ${DATABASE_URL}\n"
        more = (
            f"{storage}identity: {{api_key: {{peppers: [{{id: p1, secret: '${{PEPPER}}'}}]}}}}\n"
            f"billing: {{window: 1m, stripe: {{api_key: '${{STRIPE_KEY}}', api: '{stripe.url}'}}}}\n"
        )
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            folder.mkdir()
        nodes = [
            make(*write_config(f, api.url, POLICIES.replace("CUSTOMER", "cus_later"), more), folder=f) for f in folders
        ]
        nodes[0].cli("stripe", "apply")
        house = House(nodes[0], stripe, storage)
        house.customer = subscribed(stripe)
        for folder in folders:
            write_config(folder, api.url, POLICIES.replace("CUSTOMER", house.customer), more)
        started(house)
        assert leads(nodes[0]) == 1
        nodes[1].start()
        assert leads(nodes[1]) == 0
        stripe.killer.aim(nodes[0].pid, 1, "read")
        house.use(100)
        assert nodes[0].wait() == -9
        house.sidecar = nodes[1]
        end = time.monotonic() + TAKEOVER_S
        while house.billed() != house.used:
            assert time.monotonic() < end, nodes[1].errors
            nodes[1].cli("outbox", "list")
        assert leads(nodes[1]) == 1
        house.reported()
        assert nodes[1].stop() == 0
        server.drop(database)
