"""Stripe's deliveries while the process that takes them is killed: signed, over HTTP, repeated until they get 200."""

import hashlib
import hmac
import json
import random
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from typing import Any

import apsw
import pytest

from demo.fakestripe import FakeStripe
from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, Sidecar, until, write_config
from tests.e2e.stripe import SECRET, Stripe
from tests.e2e.test_payments import POLICIES, billing

BUYERS = 12
KILLS = 3


class Deliverer:
    """Four at a time, in no order, each event twice. ``answered``: event ids that got 200, as many times as they did;
    ``statuses``: whatever was answered."""

    def __init__(self, sidecar: Sidecar, events: list[dict[str, Any]]) -> None:
        self.sidecar = sidecar
        self.answered: list[str] = []
        self.statuses: set[int] = set()
        self._turn = threading.Condition()
        self._left = [*events, *events]
        random.Random(3).shuffle(self._left)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def reached(self, count: int) -> None:
        """Waits until so many deliveries got 200."""
        with self._turn:
            assert self._turn.wait_for(lambda: len(self.answered) >= count, PATIENCE_S), self.sidecar.errors

    def _work(self) -> None:
        while self._left:
            try:
                event = self._left.pop()
            except IndexError:
                return
            body = json.dumps(event).encode()
            until(partial(self._takes, body))
            with self._turn:
                self.answered.append(event["id"])
                self._turn.notify_all()

    def _takes(self, body: bytes) -> bool:
        return self._post(body) == 200

    def _post(self, body: bytes) -> int:
        """0: no answer, as while no process is there."""
        now_s = int(time.time())
        mac = hmac.new(SECRET.encode(), b"%d." % now_s + body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(
            f"{self.sidecar.base}/_sidecar/webhooks/stripe",
            data=body,
            headers={"Stripe-Signature": f"t={now_s},v1={mac}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                status: int = reply.status
        except urllib.error.HTTPError as error:
            status = error.code
        except (OSError, ValueError):  # refused, reset, or cut in the middle of the reply
            return 0
        self.statuses.add(status)
        return status


def rows(sidecar: Sidecar, sql: str) -> list[tuple[Any, ...]]:
    """Of its database, whether it runs or not."""
    path = str(sidecar.data / "sidecar.db")
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)  # what a kill left in the log is to be seen
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def buy(fake: FakeStripe, name: str) -> None:
    """As by the link of ``sidecar stripe checkout``."""
    marks = {"sidecar": "sidecar", "sidecar_tenant": name, "sidecar_plan": "pro"}
    prices = [p for p in fake.world.prices.values() if str(p["lookup_key"]).startswith("sidecar:pro:")]
    items = [{"price": price["id"]} for price in prices]
    params = {"mode": "subscription", "line_items": items, "metadata": marks, "subscription_data": {"metadata": marks}}
    fake.sessions.complete(fake.sessions.create(params)["id"])


def test_killed_while_deliveries_arrive(
    make: Make, api: Api, stripe: Stripe, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What got 200 is on the disk at every kill; at last each event was handled once, and everybody who bought has a
    tenant, made once. Stripe lists no events here: nobody else brings them."""
    monkeypatch.setenv("STRIPE_KEY", "sk_test_fake")
    monkeypatch.setenv("HOOK", SECRET)
    sidecar = make(*write_config(tmp_path, api.url, POLICIES, billing(stripe)))
    sidecar.cli("stripe", "apply")
    stripe.do(lambda fake: fake.fail_next("drop_before", "/v1/events", times=10**6))
    buyers = [f"buyer-{number}" for number in range(BUYERS)]
    sidecar.start()
    stripe.do(lambda fake: [buy(fake, name) for name in buyers])
    events = stripe.do(lambda fake: [event for event in fake.world.events.values() if event["object"] == "event"])
    assert len(events) > 5 * BUYERS
    deliverer = Deliverer(sidecar, events)
    for number in range(KILLS):
        deliverer.reached((number + 1) * 2 * len(events) // (KILLS + 2))
        held = set(deliverer.answered)
        sidecar.kill()
        assert held <= {id for (id,) in rows(sidecar, "SELECT id FROM arrivals")}
        sidecar.start()
    deliverer.join()
    assert deliverer.statuses == {200}
    assert sorted(deliverer.answered) == sorted([event["id"] for event in events] * 2)
    until(lambda: not rows(sidecar, "SELECT id FROM arrivals WHERE finished_ns IS NULL"))
    assert sorted(rows(sidecar, "SELECT id FROM arrivals")) == sorted((event["id"],) for event in events)
    made = rows(sidecar, "SELECT subject, count(*) FROM audit_log WHERE action = 'tenant.add' GROUP BY 1")
    assert sorted(made) == sorted((name, 1) for name in buyers)
    accounts = rows(sidecar, "SELECT tenant, access, plan, status FROM accounts")
    assert sorted(accounts) == sorted((name, "active", "pro", "active") for name in buyers)
    assert sidecar.stop() == 0
    assert "Traceback" not in sidecar.errors
