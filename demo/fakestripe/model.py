"""The account behind the API: keys, permissions, idempotency, faults, routes and the passing of time.

Keys, idempotency and errors after docs.stripe.com "Authentication", "Restricted keys", "Idempotent requests" (an answer
is stored once the request has begun, errors of the server included; kept 24 hours) and "Rate limits".
"""

import base64
import copy
import json
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from functools import partial

from demo.fakestripe.catalogue import Catalogue
from demo.fakestripe.invoices import Invoices
from demo.fakestripe.meters import Meters
from demo.fakestripe.routes import Route, routes
from demo.fakestripe.state import DAY_S, NS, Fault, Knobs, Lost, Object, Refusal, Reply, WallClock, World
from demo.fakestripe.subscriptions import Sessions, Subscriptions
from demo.fakestripe.webhooks import Webhooks

KEY = "sk_test_fake"
MAX_STEPS = 100_000  # of due work in one go: more is a loop
Parked = tuple[int, str, str, dict[str, str], Object]


class FakeStripe:
    """A Stripe account in memory. ``handle`` is the API without sockets; the other methods are short cuts.

    ``keys``: restricted keys, each to the names of its permissions (``rak_billing_meter_event_write``).
    """

    def __init__(
        self, clock: WallClock, seed: int = 0, *, key: str = KEY, keys: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        self.world = World(clock, seed)
        self.meters = Meters(self.world)
        self.catalogue = Catalogue(self.world)
        self.invoices = Invoices(self.world, self.meters)
        self.subscriptions = Subscriptions(self.world, self.invoices)
        self.sessions = Sessions(self.world, self.subscriptions, self.catalogue)
        self.webhooks = Webhooks(self.world)
        self.calls: deque[tuple[str, str, Object]] = deque(maxlen=10_000)
        self._key, self._keys = key, dict(keys or {})
        self._routes = [(m, re.compile(p), permission, run) for m, p, permission, run in routes(self)]
        self._stored: OrderedDict[str, tuple[int, str, Reply]] = OrderedDict()
        self._parked: list[Parked] = []
        self._second, self._in_second = 0, 0

    @property
    def knobs(self) -> Knobs:
        return self.world.knobs

    def meter_event(
        self, event_name: str, customer: str, value: str, identifier: str, timestamp_s: int, now_ns: int
    ) -> Object:
        """An event received at ``now_ns``. Raises ``Refusal``."""
        meter = self.meters.named(event_name)
        who = meter["customer_mapping"]["event_payload_key"] if meter else "stripe_customer_id"
        what = meter["value_settings"]["event_payload_key"] if meter else "value"
        payload = {who: customer, what: value}
        params = {"event_name": event_name, "payload": payload, "identifier": identifier, "timestamp": timestamp_s}
        return self.meters.event(params, now_ns)

    def summary(self, event_name: str, customer: str, start_s: int, end_s: int, now_ns: int) -> Decimal:
        """The sum of [start_s, end_s) as a summary read at ``now_ns`` shows it: exact, the lag applied."""
        meter = self.meters.named(event_name)
        if meter is None:
            raise Refusal(404, "No such billing meter", code="resource_missing")
        return self.meters.total(meter, customer, start_s, end_s, now_ns - self.knobs.summary_lag_s * NS)

    def meter(self, event_name: str, *, window: str | None = None, formula: str = "sum") -> Object:
        """Creates an active meter."""
        params: Object = {"display_name": event_name, "event_name": event_name}
        params |= {"default_aggregation": {"formula": formula}, "event_time_window": window}
        return self.meters.create(params)

    def customer(self, **params: str) -> str:
        """Creates a customer; its id."""
        return str(self.catalogue.create_customer(dict(params))["id"])

    def fail_next(self, kind: str, path: str = "/", *, times: int = 1, seconds: float = 0.0) -> None:
        """Plans a ``Fault``."""
        self.knobs.faults.append(Fault(kind, path, times, seconds))

    def advance(self, seconds: float) -> None:
        """Lets time pass and does all that falls due, each at its own moment."""
        move: Callable[[float], None] | None = getattr(self.world.clock, "advance", None)
        if move is not None:
            move(seconds)
        else:
            self.world.offset_ns += round(seconds * NS)
        self.run_due()

    def run_due(self) -> None:
        """Reports, zombies, renewals, finalisations and dunning up to now, in order of their times."""
        for _ in range(MAX_STEPS):
            if not self._step(self.world.now_ns()):
                self.webhooks.collect()
                return
        raise RuntimeError("the due work does not end")

    def _step(self, now_ns: int) -> bool:
        jobs: list[tuple[int, int, Callable[[], None]]] = []
        for at, invoice in self.invoices.due():
            jobs.append((at * NS, 1, partial(self.invoices.run, invoice)))
        for at, sub in self.subscriptions.due():
            jobs.append((at * NS, 0, partial(self.subscriptions.run, sub)))
        if (report := self.meters.due_s()) is not None:
            jobs.append((report * NS, 2, lambda: self.meters.run(self.world.now_s())))
        for parked in self._parked:
            jobs.append((parked[0], 3, partial(self._rise, parked)))
        at_ns, _, job = min(jobs, key=lambda j: j[:2], default=(now_ns + 1, 0, lambda: None))
        if at_ns > now_ns:
            return False
        self.world.moment_ns = at_ns
        try:
            job()
            self.webhooks.collect()
        finally:
            self.world.moment_ns = None
        return True

    def _rise(self, parked: Parked) -> None:
        self._parked.remove(parked)
        _, method, path, headers, params = parked
        self._answer(method, path, headers, params)

    def handle(self, method: str, path: str, headers: Mapping[str, str], params: Object) -> Reply:
        """One request. Raises ``Lost`` where a planned fault cuts the connection."""
        self.run_due()
        low = {name.lower(): value for name, value in headers.items()}
        self.calls.append((method, path, params))
        fault = self._fault(path)
        kind = fault.kind if fault else ""
        if kind == "drop_before":
            raise Lost
        if fault and kind == "zombie":
            self._parked.append((self.world.now_ns() + round(fault.seconds * NS), method, path, low, params))
            raise Lost
        if kind in REFUSED:
            return self._reply(REFUSED[kind])
        if kind == "html":
            page = "<html><body><h1>502 Bad Gateway</h1></body></html>"
            return Reply(502, {"Content-Type": "text/html"}, page)
        if kind in ("error_before", "error_after"):
            if kind == "error_after":
                self._answer(method, path, low, params)
            reply = self._reply(Refusal(500, "An unknown error occurred", kind="api_error"))
            self._store(low.get("idempotency-key"), method, path, params, reply)
            return reply
        reply = self._answer(method, path, low, params)
        if kind in ("drop_after", "cut_body"):
            raise Lost(reply if kind == "cut_body" else None)
        return reply

    def refused(self, kind: str) -> Reply:
        """The answer of a refusal that needs no request: unavailable, rate_limit or conflict."""
        return self._reply(REFUSED[kind])

    def _fault(self, path: str) -> Fault | None:
        for fault in self.knobs.faults:
            if path.startswith(fault.path) and fault.kind != "delay":
                fault.times -= 1
                if fault.times <= 0:
                    self.knobs.faults.remove(fault)
                return fault
        return None

    def _answer(self, method: str, path: str, headers: Mapping[str, str], params: Object) -> Reply:
        key = headers.get("idempotency-key") if method == "POST" else None
        self.world.request = {"id": self.world.id("req"), "idempotency_key": key}
        try:
            self._admit()
            run, names = self._route(method, path, headers.get("authorization", ""))
            if (stored := self._replay(key, method, path, params)) is not None:
                return stored
            reply = self._reply(copy.deepcopy(run(*names, params)))
        except Refusal as refusal:
            return self._reply(refusal)
        except (KeyError, ValueError) as missing:
            text = f"Missing or invalid parameter: {missing.args[0] if missing.args else ''}"
            return self._reply(Refusal(400, text, code="parameter_missing"))
        finally:
            self.world.request = {"id": None, "idempotency_key": None}
        self._store(key, method, path, params, reply)
        return reply

    def _admit(self) -> None:
        second = self.world.now_s()
        self._in_second = self._in_second + 1 if second == self._second else 1
        self._second = second
        if 0 < self.knobs.calls_per_s < self._in_second:
            raise REFUSED["rate_limit"]

    def _route(self, method: str, path: str, authorization: str) -> tuple[Route, tuple[str, ...]]:
        key = key_in(authorization)
        if key != self._key and key not in self._keys:
            shape = f"{key[:3]}****" if key else "none"
            raise Refusal(401, f"Invalid API Key provided: {shape}")
        for verb, pattern, permission, run in self._routes:
            match = pattern.fullmatch(path)
            if verb != method or match is None:
                continue
            full = f"rak_{permission}_{'read' if method == 'GET' else 'write'}"
            if key in self._keys and full not in self._keys[key]:
                text = f"The provided key '{key[:8]}****' does not have the required permissions for this endpoint"
                more = f"{text} on account 'acct_fake'. Having the '{full}' permission would allow this request."
                raise Refusal(403, more, code="more_permissions_required")
            return run, match.groups()
        raise Refusal(404, f"Unrecognized request URL ({method}: {path}).")

    def _replay(self, key: str | None, method: str, path: str, params: Object) -> Reply | None:
        oldest = self.world.now_ns() - DAY_S * NS
        while self._stored and next(iter(self._stored.values()))[0] <= oldest:
            self._stored.popitem(last=False)
        if key is None or key not in self._stored:
            return None
        _, print_, reply = self._stored[key]
        if print_ != _fingerprint(method, path, params):
            text = "Keys for idempotent requests can only be used with the same parameters they were first used with."
            raise Refusal(400, text, kind="idempotency_error")
        more = {"Idempotent-Replayed": "true", "Original-Request": reply.headers["Request-Id"], "Date": self._date()}
        return Reply(reply.status, {**reply.headers, **more}, reply.body)

    def _store(self, key: str | None, method: str, path: str, params: Object, reply: Reply) -> None:
        if key is not None and method == "POST":
            self._stored[key] = (self.world.now_ns(), _fingerprint(method, path, params), reply)

    def _date(self) -> str:
        return format_datetime(datetime.fromtimestamp(self.world.now_s(), UTC), usegmt=True)

    def _reply(self, body: Object | Refusal) -> Reply:
        key = self.world.request["id"] or self.world.id("req")
        headers = {"Request-Id": key, "Date": self._date(), "Content-Type": "application/json"}
        if not isinstance(body, Refusal):
            return Reply(200, headers, body)
        if "already exists with identifier" in body.error["message"]:
            headers["Stripe-Should-Retry"] = "false"
        error = {**body.error, "request_log_url": f"https://dashboard.stripe.com/test/logs/{key}"}
        return Reply(body.status, headers, {"error": error})


REFUSED = {
    "unavailable": Refusal(503, "Stripe is unavailable", kind="api_error"),
    "rate_limit": Refusal(429, "Request rate limit exceeded.", code="rate_limit"),
    "conflict": Refusal(
        409,
        "Cannot create multiple usage events for the same customer, meter concurrently",
        code="too_many_concurrent_requests",
    ),
}


def key_in(authorization: str) -> str:
    """Of a bearer, or the user of Basic, as in Stripe's own examples (``curl -u sk_test_...:``); empty: none."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "basic":
        return rest.strip() if scheme.lower() == "bearer" else ""
    try:
        return base64.b64decode(rest, validate=True).decode("ascii").partition(":")[0]
    except ValueError:
        return ""


def _fingerprint(method: str, path: str, params: Object) -> str:
    return f"{method} {path} {json.dumps(params, sort_keys=True)}"
