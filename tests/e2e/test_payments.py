"""Money and access end to end: the real process, the fake Stripe, curl."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from demo.fakestripe import FakeStripe
from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, Sidecar, until, write_config
from tests.e2e.stripe import SECRET, Stripe
from tests.storage.postgres.server import shared_server

POLICIES = """\
meters: {requests: {count: requests, stripe_event: api_requests}}
routes: [{name: all, match: {path: "/{rest...}"}}]
plans:
  free: {limits: [{name: slow, limit: 1000, window: 1m, scope: [tenant]}]}
  pro:
    price: {base: "29.00 USD", meters: {requests: {amount: "0.01 USD"}}}
    limits: [{name: fast, limit: 5000, window: 1m, scope: [tenant]}]
  team:
    price: {base: "99.00 USD"}
    limits: [{name: faster, limit: 9000, window: 1m, scope: [tenant]}]
tenants: {}
"""


def billing(stripe: Stripe, access: str = "grace: 3s, read_only: 1h") -> str:
    return (
        f"billing:\n  stripe: {{api_key: '${{STRIPE_KEY}}', webhook_secrets: ['${{HOOK}}'], api: '{stripe.url}'}}\n"
        f"  access: {{{access}, pay_url: 'https://pay.example/acme', public_url: 'http://127.0.0.1:1'}}\n"
    )


def curl(*words: str) -> tuple[int, str]:
    """Status and body, by the real curl."""
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def gets(wanted: int, *words: str) -> str:
    """The body once curl gets this status."""
    got: list[tuple[int, str]] = []

    def ask() -> bool:
        got[:] = [curl(*words)]
        return got[0][0] == wanted

    until(ask)
    return got[0][1]


@pytest.fixture
def sidecar(
    storage: str, make: Make, api: Api, stripe: Stripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Sidecar:
    monkeypatch.setenv("STRIPE_KEY", "sk_test_fake")
    monkeypatch.setenv("HOOK", SECRET)
    sidecar = make(*write_config(tmp_path, api.url, POLICIES, storage + billing(stripe)))
    sidecar.cli("stripe", "apply")
    sidecar.start()
    stripe.hook(f"{sidecar.base}/_sidecar/webhooks/stripe")
    return sidecar


def buy(sidecar: Sidecar, stripe: Stripe, tenant: str) -> str:
    """The session in which somebody bought pro for the tenant."""
    link = sidecar.cli("stripe", "checkout", tenant, "--plan", "pro").stdout.strip()
    session = link.rpartition("/")[2]
    stripe.do(lambda fake: fake.sessions.complete(session))
    return session


def token_of(sidecar: Sidecar, session: str) -> str:
    """The token that a browser gets with the button."""
    match = re.search(
        r'name="token" value="(\S+?)"', gets(200, f"{sidecar.base}/_sidecar/welcome?session_id={session}")
    )
    assert match is not None
    return match[1]


def press(sidecar: Sidecar, session: str, token: str) -> str:
    """The page behind the button."""
    return gets(200, "-d", f"session_id={session}&token={token}", f"{sidecar.base}/_sidecar/welcome")


def first_key(sidecar: Sidecar, session: str, token: str) -> str:
    match = until(lambda: re.search(r"<pre>(\S+)</pre>", press(sidecar, session, token)))
    assert match is not None
    return match[1]


def test_an_unpaid_invoice_makes_read_only_and_a_payment_opens_again(sidecar: Sidecar, stripe: Stripe) -> None:
    """Checkout, first key once, unpaid, grace, read-only with the way to pay, paid, active: by webhooks."""
    session = buy(sidecar, stripe, "acme")
    page = f"{sidecar.base}/_sidecar/welcome?session_id={session}"
    assert "Show my API key" in gets(200, page)
    token, stranger = token_of(sidecar, session), token_of(sidecar, session)
    key = first_key(sidecar, session, token)
    assert "shown before" in press(sidecar, session, stranger)
    sidecar.kill()
    sidecar.start()
    stripe.hook(f"{sidecar.base}/_sidecar/webhooks/stripe")
    assert first_key(sidecar, session, token) == key, "a reply that was lost is asked for again"
    assert "shown before" in press(sidecar, session, stranger)
    read = ("-H", f"X-API-Key: {key}", f"{sidecar.base}/echo")
    write = ("-d", "x", *read)
    gets(200, *read)
    gets(200, *write)
    account = json.loads(sidecar.cli("tenants", "show", "acme", "--json").stdout)["payment"]
    assert (account["access"], account["plan"], account["status"]) == ("active", "pro", "active")
    stripe.do(lambda fake: fake.knobs.payments.update({account["customer"]: "fail"}))
    invoice = stripe.bill(account["subscription"])
    problem = json.loads(gets(402, *write))
    assert problem["code"] == "payment_required"
    assert problem["pay"] == "https://pay.example/acme"
    assert curl(*read)[0] == 200
    assert json.loads(sidecar.cli("tenants", "show", "acme", "--json").stdout)["payment"]["access"] == "read_only"
    stripe.do(lambda fake: fake.knobs.payments.clear())
    stripe.do(lambda fake: fake.invoices.act(invoice["id"], "pay"))
    gets(200, *write)
    assert sidecar.cli("stripe", "portal", "acme").stdout.startswith("http")
    assert drift(sidecar) == 0
    assert sidecar.stop() == 0
    assert key not in sidecar.errors
    assert session not in sidecar.errors
    assert "Traceback" not in sidecar.errors


def test_lost_webhooks_are_found_by_polling(
    make: Make, api: Api, stripe: Stripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is ever delivered (gitpod-io/gitpod#18810); a tenant of the policies follows its customer all the same,
    and falls back to a smaller plan. A price that is newer than Stripe's is a drift in the scrape."""
    monkeypatch.setenv("STRIPE_KEY", "sk_test_fake")
    monkeypatch.setenv("HOOK", SECRET)
    customer = stripe.do(lambda fake: fake.customer())
    policies = POLICIES.replace("tenants: {}", f"tenants: {{acme: {{plan: free, stripe_customer: {customer}}}}}")
    more = billing(stripe, "grace: 1s, fallback_plan: free").replace("webhook_secrets: ['${HOOK}'], ", "")
    sidecar = make(*write_config(tmp_path, api.url, policies, more))
    sidecar.cli("stripe", "apply")
    write_config(tmp_path, api.url, policies.replace("0.01 USD", "0.02 USD"), more)
    key = sidecar.another_key("acme")
    sidecar.start()
    read = ("-i", "-H", f"X-API-Key: {key}", f"{sidecar.base}/echo")
    assert 'name="slow"' in gets(200, *read) or '"slow"' in gets(200, *read)
    price = stripe.do(lambda fake: next(p for p in fake.world.prices.values() if p["lookup_key"].endswith("base")))
    sub = stripe.do(lambda fake: fake.subscriptions.create({"customer": customer, "items": [{"price": price["id"]}]}))
    limited_by(read, "fast")
    stripe.do(lambda fake: fake.knobs.payments.update({customer: "fail"}))
    stripe.bill(sub["id"])
    limited_by(read, "slow")
    shown = sidecar.cli("stripe", "drift", code=1).stdout.splitlines()
    differences = [line for line in shown if line[:2] in ("+ ", "~ ", "- ", "! ")]
    assert differences
    assert drift(sidecar) == len(differences)


def drift(sidecar: Sidecar) -> int:
    """As scraped, once it is known."""
    line = re.compile(r"^sidecar_billing_catalogue_drift (\S+)$", re.MULTILINE)
    found = until(lambda: line.search(curl(f"{sidecar.admin}/metrics")[1]))
    assert found is not None
    return int(float(found[1]))


def limited_by(read: tuple[str, ...], name: str) -> None:
    until(lambda: f'"{name}"' in gets(200, *read))


def change_price(stripe: Stripe, subscription: str, lookup_key: str) -> None:
    """As the customer's portal does: another price, and the metadata as they were."""

    def work(fake: FakeStripe) -> None:
        price = next(one["id"] for one in fake.world.prices.values() if one["lookup_key"] == lookup_key)
        items = [item["id"] for item in fake.world.subscriptions[subscription]["items"]["data"]]
        gone = [{"id": item, "deleted": True} for item in items]
        fake.subscriptions.update(subscription, {"items": [{"price": price}, *gone]})

    stripe.do(work)


def test_malformed_deliveries_are_400(sidecar: Sidecar) -> None:
    """By curl: no signature, wrong one, no UTF-8, too large; each counted, none a 500."""
    hook = f"{sidecar.base}/_sidecar/webhooks/stripe"
    assert curl("-d", "{}", hook)[0] == 400
    assert curl("-d", "{}", "-H", "Stripe-Signature: t=1,v1=ab", hook)[0] == 400
    assert curl("-d", "{}", "-H", "Stripe-Signature: t=1,v1=\u00e4", hook)[0] == 400
    assert curl("--data-binary", _file(sidecar, bytes([255] * 10)), hook)[0] == 400
    assert curl("--data-binary", _file(sidecar, b" " * 600_000), "-H", "Expect:", hook)[0] == 400
    metrics = curl(f"{sidecar.admin}/metrics")[1]
    assert 'sidecar_webhooks_total{result="bad_header"}' in metrics
    assert 'sidecar_webhooks_total{result="too_large"} 1' in metrics


def _file(sidecar: Sidecar, data: bytes) -> str:
    path = sidecar.folder / "body"
    path.write_bytes(data)
    return f"@{path}"


def test_a_fleet_on_one_postgresql_follows_one_webhook(
    make: Make, api: Api, stripe: Stripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries come to one node; the key it shows, the plan and the access that follow hold on the other."""
    monkeypatch.setenv("STRIPE_KEY", "sk_test_fake")
    monkeypatch.setenv("HOOK", SECRET)
    monkeypatch.setenv("PEPPER", "0123456789abcdef0123456789abcdef")
    with shared_server() as server:
        database = server.migrated()
        monkeypatch.setenv("DATABASE_URL", database.url)
        more = "storage: ${DATABASE_URL}\nidentity: {api_key: {peppers: [{id: p1, secret: '${PEPPER}'}]}}\n" + billing(
            stripe
        )
        nodes = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            nodes.append(make(*write_config(folder, api.url, POLICIES, more), folder=folder))
        nodes[0].cli("stripe", "apply")
        one, two = (node.start() for node in nodes)
        stripe.hook(f"{two.base}/_sidecar/webhooks/stripe")
        session = buy(one, stripe, "acme")
        token = token_of(one, session)
        key = first_key(two, session, token)
        assert first_key(one, session, token) == key, "whichever node the browser comes to"
        write = ("-d", "x", "-H", f"X-API-Key: {key}", f"{one.base}/echo")
        gets(200, *write)
        account = json.loads(two.cli("tenants", "show", "acme", "--json").stdout)["payment"]
        change_price(stripe, account["subscription"], "sidecar:team:base")
        for node in (one, two):
            limited_by(("-i", "-H", f"X-API-Key: {key}", f"{node.base}/echo"), "faster")
        stripe.do(lambda fake: fake.knobs.payments.update({account["customer"]: "fail"}))
        invoice = stripe.bill(account["subscription"])
        gets(402, *write)
        stripe.do(lambda fake: fake.knobs.payments.clear())
        stripe.do(lambda fake: fake.invoices.act(invoice["id"], "pay"))
        gets(200, *write)
        assert [node.stop() for node in nodes] == [0, 0]
        server.drop(database)
