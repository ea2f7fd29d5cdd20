"""The part of the show about money: a checkout, the first key, an unpaid invoice, read-only, paid again."""

import http.client
import json
import re
import sys
import time
import urllib.parse
from collections.abc import Callable
from typing import Protocol, TypeVar

from demo.calls import DATA, Reply, heading
from demo.processes import Program

Found = TypeVar("Found")
PATIENCE_S = 30.0
MORE_CALLS = 20
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Stage(Protocol):
    """The running show."""

    base: str

    def command(self, *words: str) -> str: ...

    def tell(self, expected: int, words: str, call: str, reply: Reply) -> None: ...

    def expect(self, holds: bool, words: str) -> None: ...

    def restart(self) -> None: ...


def stripe_at(port: int, listen: str, behind_s: int) -> Program:
    """The stand-in for Stripe, whose webhooks go to the sidecar that will listen there."""
    command = [sys.executable, "-m", "demo.fakestripe", "--port", str(port), "--behind", str(behind_s)]
    command += ["--webhook", f"http://{listen}/_sidecar/webhooks/stripe"]
    return Program("The stand-in for Stripe", command, r"fake Stripe on (http://[^,]+)", DATA / "stripe.log", {})


def pay(show: Stage, stripe: str) -> str:
    """From a link to a key to an unpaid invoice and back; the tenant."""
    heading("Money: a new customer, an unpaid invoice")
    name = f"newcomer-{time.time_ns() // 10**9 % 100_000}"
    link = show.command("stripe", "checkout", name, "--plan", "pro").strip()
    session = link.rpartition("/")[2]
    print(f"{link}\nThe customer pays there; then the browser shows the first key, once:")
    Reply(stripe, "POST", f"/_fake/checkout/{session}/pay")
    key = _first_key(show.base, session)
    print(f"    {key[:12]}...")
    _until(show, 201, "it works", key, "POST")
    for _ in range(MORE_CALLS):
        Reply(show.base, "GET", "/v1/items/1", key)
    print(f"    and {MORE_CALLS} calls more")
    customer = json.loads(show.command("tenants", "show", name, "--json"))["payment"]["customer"]
    print("\nA month later the card is refused. The demo's grace is 2 s, yours is 7 days:")
    Reply(stripe, "POST", f"/_fake/customers/{customer}/month")
    _until(show, 402, "unpaid: read-only", key, "POST")
    _until(show, 200, "reading still works", key, "GET")
    Reply(stripe, "POST", f"/_fake/customers/{customer}/settle")
    _until(show, 201, "paid: open again within seconds", key, "POST")
    return name


def _first_key(base: str, session: str) -> str:
    address = urllib.parse.urlsplit(base)

    def ask() -> str | None:
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        try:
            connection.request("GET", f"/_sidecar/welcome?session_id={session}")
            button = re.search(r'name="token" value="(\S+?)"', connection.getresponse().read().decode())
            form = {"session_id": session, "token": button[1] if button else ""}
            connection.request("POST", "/_sidecar/welcome", urllib.parse.urlencode(form), _FORM)
            found = re.search(r"<pre>(\S+)</pre>", connection.getresponse().read().decode())
        finally:
            connection.close()
        return found[1] if found else None

    return patiently(ask) or ""


def _until(show: Stage, status: int, words: str, key: str, method: str) -> None:
    path, body = ("/v1/reports", {"month": "all"}) if method == "POST" else ("/v1/items/1", None)

    def ask() -> Reply | None:
        reply = Reply(show.base, method, path, key, body)
        return reply if reply.status == status else None

    last = patiently(ask) or Reply(show.base, method, path, key, body)
    show.tell(status, words, f"{method} {path}", last)


def patiently(ask: Callable[[], Found | None]) -> Found | None:
    """What ``ask`` finds at last; None after PATIENCE_S."""
    end = time.monotonic() + PATIENCE_S
    while (found := ask()) is None and time.monotonic() < end:
        time.sleep(0.2)
    return found
