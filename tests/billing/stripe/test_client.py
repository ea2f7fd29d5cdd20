"""The official client with the project's defaults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import stripe

from sidecar.billing.stripe import API_VERSION, StripeClient, StripeFault, ask
from sidecar.core.billing_settings import StripeSettings
from tests.billing.stripe.peer import KEY, RESET, Peer, error, reply

ROOT = Path(__file__).parents[3]
SENDS = """
import asyncio, sys
from sidecar.billing.stripe import StripeClient, StripeFault, ask
from sidecar.core.billing_settings import StripeSettings

async def main():
    client = StripeClient(StripeSettings("sk_test_1234567890", api="http://127.0.0.1:9"))
    try:
        await ask(client, client.v1.customers.list_async({"limit": 1}), "Customers: Read")
    except StripeFault as fault:
        print(fault)
    await client.close()

asyncio.run(main())
"""


async def test_a_reply_that_is_cut_is_a_failure_of_the_connection(peer: Peer, client: StripeClient) -> None:
    """The package's own transport raises a bare aiohttp error here, which none of its callers expects."""
    peer.script.append(reply(200, {"id": "cus_1"}, length=1_000))
    with pytest.raises(stripe.APIConnectionError, match="ClientPayloadError"):
        await client.v1.customers.retrieve_async("cus_1")


async def test_every_request_says_the_version_and_nothing_about_this_machine(
    peer: Peer, client: StripeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURSOR_AGENT", "1")  # one of those that the package looks for
    peer.otherwise = reply(200, {"object": "list", "data": [], "has_more": False, "url": "/v1/customers"})
    await client.v1.customers.list_async({"limit": 1})
    fields = peer.asked[0].fields
    assert fields["stripe-version"] == API_VERSION
    assert fields["authorization"] == f"Bearer {KEY}"
    assert "telemetry" not in str(fields).lower()
    assert fields["user-agent"] == f"sidecar stripe-python/{stripe.VERSION}"
    assert "x-stripe-client-user-agent" not in fields
    assert "cursor" not in str(fields).lower()


async def test_nothing_is_tried_again(peer: Peer, client: StripeClient) -> None:
    peer.otherwise = error(500, "no", type="api_error")
    with pytest.raises(stripe.APIError):
        await client.v1.customers.retrieve_async("cus_1")
    peer.otherwise = RESET
    with pytest.raises(stripe.APIConnectionError):
        await client.v1.customers.create_async({"name": "x"})
    assert len(peer.asked) == 2


async def test_a_redirect_is_not_followed(peer: Peer, client: StripeClient) -> None:
    """The key would go elsewhere, and a POST would come back as the 200 of a GET."""
    peer.script.append(reply(302, b"", f"Location: {peer.url}/elsewhere"))
    with pytest.raises(stripe.StripeError):
        await client.v1.customers.create_async({"name": "x"})
    assert [asked.path for asked in peer.asked] == ["/v1/customers"]


async def test_the_key_is_never_shown(peer: Peer, client: StripeClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    peer.otherwise = error(400, f"no such key {KEY} here\nat all")
    with pytest.raises(StripeFault) as raised:
        await ask(client, client.v1.customers.retrieve_async("cus_1"), "Customers: Read")
    assert str(raised.value) == "Stripe says 400: no such key *** here at all"
    assert KEY not in repr(client) + str(client) + repr(raised.value) + repr(raised.value.__context__.__class__)
    assert "SECRET" not in "".join(record.getMessage() for record in caplog.records if record.name == "stripe")


@pytest.mark.parametrize(("key", "live"), [("sk_live_1", True), ("rk_live_1", True), ("sk_test_1", False)])
def test_live_and_test_keys(key: str, live: bool) -> None:
    assert StripeClient(StripeSettings(key)).live is live


async def test_a_client_is_closed_twice_or_unused(peer: Peer) -> None:
    client = StripeClient(StripeSettings(KEY, api=peer.url + "/"))
    await client.close()
    await client.close()
    assert client.api == peer.url


@pytest.mark.parametrize(
    ("answer", "told", "stop"),
    [
        (
            error(401, "Invalid API Key provided: rk_test_***CRET"),
            "Stripe does not take the API key; write a valid one where billing.stripe.api_key points to",
            True,
        ),
        (
            error(
                403,
                "The provided key 'rk_test_***' does not have the required permissions for this endpoint. Having "
                "the 'rak_customer_read' permission would allow this request to continue.",
            ),
            "the API key lacks a permission: Customers: Read (rak_customer_read); grant it at Stripe",
            True,
        ),
        (error(403, "No."), "the API key lacks a permission: Customers: Read; grant it at Stripe", True),
        (reply(403, b"<html>proxy</html>"), "is not Stripe's (status 403)", False),
        (reply(200, b"<html>welcome</html>"), "is not Stripe's (status 200)", False),
        (reply(200, []), "cannot be read", False),
        (RESET, "cannot be reached: ", False),
        (error(404, "No such customer: 'cus_1'"), "Stripe says 404: No such customer: 'cus_1'", False),
    ],
)
async def test_faults_say_what_to_do(peer: Peer, client: StripeClient, answer: bytes, told: str, stop: bool) -> None:
    async def call() -> str:
        found = await client.v1.customers.retrieve_async("cus_1")
        return found.id

    peer.otherwise = answer  # of a GET, aiohttp tries a reset one again
    with pytest.raises(StripeFault) as raised:
        await ask(client, call(), "Customers: Read")
    assert told in str(raised.value)
    assert raised.value.stop is stop


def test_no_file_is_left_in_the_home_folder(tmp_path: Path) -> None:
    """The package keeps an id of the machine in ~/.config unless it is told not to before its first request."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")} | {"HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", SENDS], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stdout.strip() == "Stripe at http://127.0.0.1:9 cannot be reached: ClientConnectorError", run.stderr
    assert list(tmp_path.rglob("*")) == []
