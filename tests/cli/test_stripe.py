"""``sidecar stripe plan | apply | drift`` against the stateful fake, through the official SDK."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from demo.fakestripe import KEY, FakeStripe
from demo.fakestripe.server import Server
from sidecar.cli import main
from sidecar.core.clock import ManualClock
from tests.fakestripe.openapi import Validated

Command = Callable[..., Awaitable[int]]
POLICIES = """
meters:
  requests: {count: requests, stripe_event: api_requests}
plans:
  pro:
    price: {base: "29.00 USD", meters: {requests: {included: 100_000, per: 1_000, amount: "0.50 USD"}}}
"""


@pytest.fixture
async def command(
    tmp_path: Path, aiohttp_server: Callable[..., Awaitable[TestServer]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Command]:
    app = Server(FakeStripe(ManualClock())).application()
    watched = Validated(app)
    server = await aiohttp_server(app)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "plans.yaml").write_text(POLICIES)
    file = tmp_path / "sidecar.yaml"
    file.write_text(
        f'billing: {{stripe: {{api_key: "${{STRIPE_API_KEY}}", api: "{str(server.make_url("")).rstrip("/")}"}}}}\n'
    )
    monkeypatch.setenv("STRIPE_API_KEY", KEY)

    async def run(*words: str) -> int:
        return await asyncio.to_thread(main, ["stripe", *words, "--config", str(file)])

    yield run
    watched.assert_clean()


async def test_the_catalogue_becomes_what_the_policies_say_and_stays_so(
    command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert await command("drift") == 1
    wanted = capsys.readouterr().out
    assert await command("apply") == 0
    assert capsys.readouterr().out == wanted
    assert "sidecar:pro:requests" in wanted
    assert await command("apply") == 0
    assert capsys.readouterr() == ("", "nothing had to be changed\n")
    assert await command("drift", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"changes": [], "blocked": []}
    (tmp_path / "policies" / "plans.yaml").write_text(POLICIES.replace("29.00", "39.00"))
    assert await command("plan") == 0
    assert "29.00 USD a month -> 39.00 USD a month" in capsys.readouterr().out


async def test_a_wrong_key_and_no_key_are_said_and_never_shown(
    command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_somebody_elses")
    assert await command("plan") == 1
    said = capsys.readouterr().err
    assert "Stripe does not take the API key" in said
    assert "somebody" not in said
    (tmp_path / "sidecar.yaml").write_text("{}\n")
    assert await command("plan") == 1
    assert "Stripe is not configured" in capsys.readouterr().err
