"""The show: start, make tenants and keys, call, look at usage and metrics, print what to try next."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from demo.calls import BOLD, DATA, DIM, PLAIN, Reply, heading
from demo.metering import BEHIND_S, STRIPE_BEHIND_S, meter
from demo.payments import pay, stripe_at
from demo.processes import Failed, Program, free_port, run, sidecar

PLANS = ("sandbox", "free", "pro", "scale")
HEADERS = ("RateLimit-Policy", "RateLimit", "Retry-After", "X-Request-ID", "X-Request-Latency", "X-Compute-Cost")
METRICS = ("sidecar_requests_total", "sidecar_refusals_total", "sidecar_units_total", "sidecar_upstream_up")
MOST_CALLS = 150  # until the 429; the plan free admits 10 a second and 100 a minute
READY = r"listening on (http://\S+?), protecting .*admin on (http://\S+)"


class Show:
    """The running demo: ``base`` and ``admin`` are the sidecar's addresses, ``keys`` maps plan to key."""

    def __init__(self, start: Callable[[bool], Program], environment: dict[str, str], *, kept: bool) -> None:
        """``start`` starts the sidecar, with its clock behind or right."""
        self._start = start
        self.base = self.admin = ""
        self.front = self._begin(behind=True)
        self.keys: dict[str, str] = {}
        self.missing: list[str] = []
        self.stripe = environment["DEMO_STRIPE"]
        self._environment = environment
        self._kept = kept  # the tenants are there from the time before; only keys are new

    def _begin(self, *, behind: bool) -> Program:
        front = self._start(behind)
        base, admin = front.ready().groups()
        self.base, self.admin = base, admin.rstrip(".,")
        return front

    def restart(self) -> None:
        """Ends the sidecar in order and starts it with the right clock."""
        if code := self.front.stop():
            raise Failed(f"The sidecar ended with {code}.")
        self.front = self._begin(behind=False)

    def expect(self, holds: bool, words: str) -> None:
        if not holds:
            self.missing.append(words)

    def command(self, *words: str) -> str:
        shown = " ".join(words)
        print(f"{DIM}$ sidecar {shown}{PLAIN}")
        where = ("--config", "demo/sidecar.yaml", "--data", str(DATA))
        return run(sidecar(*words, *where), self._environment)

    def make_tenants(self) -> None:
        heading("A tenant on each plan, with a key")
        for plan in PLANS:
            if not self._kept:
                self.command("tenants", "add", f"{plan}-co", "--plan", plan)
            self.keys[plan] = self.command("keys", "create", f"{plan}-co", "--name", "demo").strip()

    def call(
        self, expected: int, words: str, method: str, path: str, key: str | None = None, body: object = None
    ) -> Reply:
        reply = Reply(self.base, method, path, key, body)
        self.tell(expected, words, f"{method} {path}", reply)
        return reply

    def tell(self, expected: int, words: str, call: str, reply: Reply) -> None:
        print(f"\n{BOLD}{reply.status}{PLAIN} {call}  {DIM}{words}{PLAIN}")
        for name in HEADERS:
            if value := reply.headers.get(name):
                print(f"    {name}: {value}")
        print(f"    {reply.detail()}")
        if reply.status != expected:
            self.missing.append(f"{call} ({words}): expected {expected}, got {reply.status}")

    def calls(self) -> None:
        heading("Calls")
        self.call(200, "a key of the plan pro", "GET", "/v1/search?q=item", key=self.keys["pro"])
        self.call(201, "a feature that pro has", "POST", "/v1/reports", key=self.keys["pro"], body={"month": "all"})
        self.call(401, "no key", "GET", "/v1/search?q=item")
        self.call(401, "a mistyped key", "GET", "/v1/search?q=item", key=self.keys["pro"][:-1] + "!")
        self.call(403, "the same feature, plan free", "POST", "/v1/reports", key=self.keys["free"], body={})
        self.call(404, "an address with no route", "GET", "/nowhere", key=self.keys["pro"])
        self.call(200, "a route with `auth: none`", "GET", "/healthz")
        number, reply = 1, Reply(self.base, "GET", "/v1/items/1", self.keys["free"])
        while reply.status == 200 and number < MOST_CALLS:
            number, reply = number + 1, Reply(self.base, "GET", "/v1/items/1", self.keys["free"])
        self.tell(429, f"plan free, call {number} in a row", "GET /v1/items/1", reply)

    def usage(self) -> None:
        heading("What was written down")
        print(self.command("usage", "free-co").rstrip())
        print(self.command("usage", "pro-co").rstrip())

    def metrics(self) -> None:
        heading(f"What Prometheus sees ({self.admin}/metrics)")
        reply = Reply(self.admin, "GET", "/metrics")
        lines = [line for line in reply.text.splitlines() if line.startswith(METRICS)]
        print("\n".join(lines[:16]))
        if reply.status != 200 or not lines:
            self.missing.append(f"GET /metrics: expected the demo's requests, got {reply.status}")

    def next_steps(self) -> None:
        heading("Go on")
        for plan, key in self.keys.items():
            print(f"curl -i -H 'X-API-Key: {key}' '{self.base}/v1/search?q=item'  # {plan}")
        key = self.keys["scale"]
        print(f"curl -N -H 'Authorization: Bearer {key}' {self.base}/v1/stream")
        print(f"curl -i -H 'X-API-Key: {key}' --json '{{\"name\": \"new\"}}' {self.base}/v1/items")
        print(f"curl {self.admin}/metrics")
        print(f"{Path('.venv/bin/sidecar')} usage pro-co --config demo/sidecar.yaml --data {DATA}")


@contextmanager
def started() -> Iterator[Show]:
    """All three programs, running; ends them in order: the sidecar drains while the API still answers."""
    kept = os.environ.get("KEEP") == "1" and DATA.exists()
    if not kept:
        shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        port = free_port(9000, "the sample API")
        command = [sys.executable, "-m", "demo.upstream", "--port", str(port)]
        api = Program("The sample API", command, r"listening on (\S+)", DATA / "api.log", {})
        stack.callback(api.stop)
        target = api.ready()[1]
        listen = f"127.0.0.1:{free_port(8080, 'the sidecar')}"
        stripe = stripe_at(free_port(12111, "the stand-in for Stripe"), listen, STRIPE_BEHIND_S)
        stack.callback(stripe.stop)
        stripe_url = stripe.ready()[1]
        environment = {
            "DEMO_STRIPE": stripe_url,
            "DEMO_STRIPE_KEY": "sk_test_fake",
            "DEMO_HOOK": "whsec_fake",
            "DEMO_UPSTREAM": target,
            "DEMO_LISTEN": listen,
            "DEMO_ADMIN": f"127.0.0.1:{free_port(9901, 'its admin side')}",
        }
        where = ("--config", "demo/sidecar.yaml", "--data", str(DATA))
        run(sidecar("stripe", "apply", *where), environment)

        def start(behind: bool) -> Program:
            early = [sys.executable, "-m", "demo.behind", str(BEHIND_S), "--data", str(DATA)]
            command = early if behind else sidecar("run", *where)
            log = DATA / ("sidecar-before.log" if behind else "sidecar.log")
            front = Program("The sidecar", command, READY, log, environment)
            stack.callback(front.stop)
            return front

        show = Show(start, environment, kept=kept)
        print(f"sample API  {target}\nStripe      {stripe_url} (a stand-in)")
        print(f"sidecar     {show.base}\nadmin       {show.admin}")
        yield show


def perform(*, once: bool) -> int:
    with started() as show:
        show.make_tenants()
        show.calls()
        show.usage()
        show.metrics()
        meter(show, show.stripe, pay(show, show.stripe))
        if show.missing:
            heading("Not as it should be")
            print("\n".join(show.missing))
        if once:
            return 1 if show.missing else 0
        show.next_steps()
        print(f"\nRunning until Ctrl-C; logs are in {DATA}.")
        return show.front.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the show; 1 when a reply was not as expected")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` ends it as Ctrl-C does
    try:
        return perform(once=arguments.once)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
