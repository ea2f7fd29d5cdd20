"""Webhook deliveries: signed per attempt, at least once, in no order (docs.stripe.com "Webhooks").

Retries: three, an hour, four hours and nine hours after the attempt before.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass

from demo.fakestripe.state import NS, Object, World

MAX_PENDING = 10_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go; ``thin``: the v2 ones, else the snapshots."""

    url: str
    secret: str
    thin: bool = False


@dataclass(slots=True)
class Delivery:
    """One event on its way to one endpoint. ``due_ns``: of the next attempt."""

    endpoint: Endpoint
    event: Object
    due_ns: int
    attempts: int = 0


class Webhooks:
    """The destinations and what is still to be delivered; at most ``MAX_PENDING``, the oldest are given up."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.endpoints: list[Endpoint] = []
        self.pending: list[Delivery] = []

    def collect(self) -> None:
        """Takes the newly emitted events to the endpoints; here some get lost or doubled, as the knobs say."""
        knobs, random = self.world.knobs, self.world.random
        while self.world.news:
            event = self.world.news.popleft()
            for endpoint in self.endpoints:
                if endpoint.thin != (event["object"] == "v2.core.event"):
                    continue
                if event["type"] == "invoice.created" and knobs.grace_s == 3600:
                    self.world.unheard.add(event["data"]["object"]["id"])
                if random.random() < knobs.webhook_loss_share:
                    continue
                copies = 2 if random.random() < knobs.webhook_twice_share else 1
                self.pending += [Delivery(endpoint, event, self.world.now_ns()) for _ in range(copies)]
        del self.pending[: max(0, len(self.pending) - MAX_PENDING)]

    def due(self) -> list[Delivery]:
        """Takes out what is to be attempted now; hand each back to ``answered``."""
        self.collect()
        now = self.world.now_ns()
        ready = [d for d in self.pending if d.due_ns <= now]
        self.pending = [d for d in self.pending if d.due_ns > now]
        if self.world.knobs.webhook_disorder:
            self.world.random.shuffle(ready)
        return ready

    def signed(self, delivery: Delivery) -> tuple[bytes, dict[str, str]]:
        """Body and headers of an attempt at this moment. Thin events go without their data."""
        event = delivery.event
        if delivery.endpoint.thin:
            event = {k: v for k, v in event.items() if k != "data"}
        body = json.dumps(event, indent=2).encode()
        stamp = self.world.now_s()
        secret = delivery.endpoint.secret.encode()
        mac = hmac.new(secret, b"%d." % stamp + body, hashlib.sha256).hexdigest()
        signature = f"t={stamp},v1={mac}"
        return body, {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature}

    def answered(self, delivery: Delivery, status: int) -> None:
        """``status`` 0: no answer. Anything but 2xx is tried again."""
        if 200 <= status < 300:
            if delivery.event["type"] == "invoice.created":
                self.world.unheard.discard(delivery.event["data"]["object"]["id"])
            return
        delivery.attempts += 1
        if delivery.attempts <= 3:
            delivery.due_ns = self.world.now_ns() + delivery.attempts**2 * 3600 * NS
            self.pending.append(delivery)
