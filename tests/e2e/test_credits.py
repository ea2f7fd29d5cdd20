"""Money with the real process: credits burned to a 402, a spend cap, quotas by an anchor, and shares told once."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.api import Api
from tests.e2e.process import Sidecar, write_config

Make = Callable[..., Sidecar]
POLICIES = """\
meters:
  calls: {count: requests, routes: [paid]}
  requests: {count: requests}
routes:
  - {name: paid, match: {path: /bytes/1}, upstream: api}
  - {name: free, match: {path: "/{path...}"}, upstream: api}
plans:
  prepaid: {prepaid: true, price: {meters: {calls: {amount: "0.10 USD"}}}}
  capped:
    price: {meters: {calls: {included: 1, amount: "0.25 USD"}}}
    spend_cap: {limit: "0.50 USD", period: month}
  counted: {quotas: [{name: monthly, meter: requests, limit: 4, period: billing, thresholds: [50, 100]}]}
tenants:
  acme: {plan: prepaid}
  beta: {plan: capped, overrides: {spend_cap: {limit: "0.25 USD"}}}
  gamma: {plan: counted, anchor: {day: 31, time: "09:30"}, time_zone: Europe/Berlin}
"""


class Receiver:
    """Takes notices."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        got, more = self.got, threading.Condition()
        self._more = more

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with more:
                    got.append(json.loads(body))
                    more.notify_all()
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait(self, count: int) -> list[int]:
        """The thresholds told so far, once there are ``count``."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.got) >= count, timeout=60), self.got
        return [notice["data"]["threshold"] for notice in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def statuses(sidecar: Sidecar, key: str, path: str, times: int) -> list[int]:
    return [sidecar.call("GET", path, key).status for _ in range(times)]


def test_credits_spend_caps_and_shares_of_quotas(
    api: Api, make: Make, tmp_path: Path, receiver: Receiver, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """unkeyed/unkey#3304, BerriAI/litellm#10973: a top-up counts once, over a crash too; free routes stay open."""
    monkeypatch.setenv("HOOK", "whsec_" + "QUFB" * 10)
    notices = f"billing: {{notices: {{webhook: '{receiver.url}', secret: '${{HOOK}}'}}}}\n"
    sidecar = make(*write_config(tmp_path, api.url, POLICIES, notices + storage)).start()
    acme, beta, gamma = (sidecar.another_key(tenant) for tenant in ("acme", "beta", "gamma"))
    refused = sidecar.call("GET", "/bytes/1", acme)
    assert (refused.status, refused.problem()["code"]) == (402, "credits_exhausted")
    for _ in range(2):
        sidecar.cli("credits", "grant", "acme", "--amount", "0.35 USD", "--source", "pi_1")
    assert statuses(sidecar, acme, "/bytes/1", 5) == [200, 200, 200, 402, 402]
    assert statuses(sidecar, acme, "/echo", 2) == [200, 200]
    assert statuses(sidecar, beta, "/bytes/1", 4) == [200, 200, 402, 402], "one is included, one is paid"
    assert sidecar.call("GET", "/bytes/1", beta).problem()["code"] == "spend_cap_reached"
    assert statuses(sidecar, gamma, "/echo", 5) == [200, 200, 200, 200, 429]
    assert sorted(receiver.wait(2)) == [50, 100]
    sidecar.kill()
    sidecar.start()
    assert statuses(sidecar, acme, "/bytes/1", 1) == statuses(sidecar, beta, "/bytes/1", 1) == [402]
    sidecar.cli("credits", "grant", "acme", "--amount", "0.35 USD", "--source", "pi_1")
    assert statuses(sidecar, acme, "/bytes/1", 1) == [402]
    assert "0.05 USD available" in sidecar.cli("credits", "balance", "acme").stdout
    assert statuses(sidecar, gamma, "/echo", 1) == [429]
    sidecar.cli("credits", "grant", "acme", "--amount", "0.10 USD", "--source", "pi_2")
    assert statuses(sidecar, acme, "/bytes/1", 1) == [200]
    assert sorted(receiver.wait(2)) == [50, 100], "nothing was told twice"
    earned = json.loads(sidecar.cli("margin", "--period", "billing", "--tenant", "acme", "--json").stdout)["rows"]
    assert [(row["revenue"], row["credits"], row["unpaid"]) for row in earned] == [(400_000, 400_000, 0)]
