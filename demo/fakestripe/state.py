"""What all parts of the fake share: its time, ids, tables, knobs, the log of its events, and its ways to refuse."""

import copy
import random
import string
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

Object = dict[str, Any]
NS = 1_000_000_000
DAY_S = 86_400
API_VERSION = "2026-05-27.dahlia"
MAX_EVENTS = 20_000  # the oldest are forgotten, as Stripe forgets those of more than 30 days


class WallClock(Protocol):
    """The clock the fake lives by; one that also has ``advance(seconds)`` is moved by ``FakeStripe.advance``."""

    def wall_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it meets a socket; ``body`` is a JSON object, or text for what is no JSON."""

    status: int
    headers: dict[str, str]
    body: Object | str


class Refusal(Exception):
    """An answer with an error object, as Stripe words it."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.error: Object = {"type": kind, "message": message, **more}

    @property
    def code(self) -> str | None:
        code: str | None = self.error.get("code")
        return code


class Lost(ConnectionError):
    """The caller gets no answer; ``cut``: the answer whose headers arrive and whose body does not."""

    def __init__(self, cut: Reply | None = None) -> None:
        super().__init__("the connection was cut")
        self.cut = cut


@dataclass(slots=True)
class Fault:
    """What is to happen to the next ``times`` requests whose path starts with ``path``.

    ``kind``: drop_before, drop_after, cut_body, error_before, error_after (500, stored under the idempotency key),
    unavailable (503, not stored), html (502), rate_limit (429), conflict (409), delay, zombie (no answer; processed
    ``seconds`` later).
    """

    kind: str
    path: str = "/"
    times: int = 1
    seconds: float = 0.0


@dataclass(slots=True)
class Knobs:
    """How this Stripe behaves. Times in seconds of its own clock; ``*_share`` are probabilities.

    ``asynchronous``: the codes of meter events that are answered with 200 and reported later.
    ``payments``: customer to ``ok`` or ``fail``. ``calls_per_s`` 0: no limit.
    """

    dedupe_s: int = DAY_S
    summary_lag_s: int = 0
    grace_s: int = 3600
    report_after_s: int = 10
    asynchronous: frozenset[str] = frozenset(
        {
            "no_meter",
            "archived_meter",
            "meter_event_customer_not_found",
            "meter_event_invalid_value",
            "meter_event_no_customer_defined",
        }
    )
    rejected_keeps_identifier: bool = False
    payments: dict[str, str] = field(default_factory=dict)
    dunning_days: tuple[int, ...] = (3, 5, 6)
    after_dunning: str = "unpaid"
    calls_per_s: int = 0
    processing_s: float = 0.0
    webhook_loss_share: float = 0.0
    webhook_twice_share: float = 0.0
    webhook_disorder: bool = False
    faults: list[Fault] = field(default_factory=list)


class World:
    """The one account: its tables by id in order of creation, its clock and its event log."""

    def __init__(self, clock: WallClock, seed: int) -> None:
        self.clock = clock
        self.random = random.Random(seed)
        self.knobs = Knobs()
        self.offset_ns = 0
        self.moment_ns: int | None = None
        self.request: Object = {"id": None, "idempotency_key": None}
        self.meters: dict[str, Object] = {}
        self.products: dict[str, Object] = {}
        self.prices: dict[str, Object] = {}
        self.customers: dict[str, Object] = {}
        self.subscriptions: dict[str, Object] = {}
        self.invoices: dict[str, Object] = {}
        self.sessions: dict[str, Object] = {}
        self.events: OrderedDict[str, Object] = OrderedDict()
        self.news: deque[Object] = deque(maxlen=MAX_EVENTS)
        self.unheard: set[str] = set()

    def now_ns(self) -> int:
        """The moment of the due work that runs, or now."""
        return self.clock.wall_ns() + self.offset_ns if self.moment_ns is None else self.moment_ns

    def now_s(self) -> int:
        return self.now_ns() // NS

    def id(self, prefix: str) -> str:
        return f"{prefix}_{''.join(self.random.choices(string.ascii_letters + string.digits, k=24))}"

    def emit(self, kind: str, body: Object) -> None:
        """A snapshot event: the object as it is at this moment."""
        self._keep(
            {
                "id": self.id("evt"),
                "object": "event",
                "api_version": API_VERSION,
                "created": self.now_s(),
                "data": {"object": copy.deepcopy(body)},
                "livemode": False,
                "pending_webhooks": 0,
                "request": dict(self.request),
                "type": kind,
            }
        )

    def emit_thin(self, kind: str, related: Object, data: Object) -> None:
        """A thin event: its ``data`` is only in the answer of /v2/core/events/{id}."""
        stamp = datetime.fromtimestamp(self.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        event = {"id": self.id("evt"), "object": "v2.core.event", "type": kind, "created": stamp, "livemode": False}
        about = {"related_object": related} if related else {}  # where present, the document wants its id
        self._keep({**event, **about, "data": data})

    def _keep(self, event: Object) -> None:
        self.events[event["id"]] = event
        self.news.append(event)
        while len(self.events) > MAX_EVENTS:
            self.events.popitem(last=False)


def found(table: dict[str, Object], key: str, noun: str, param: str = "id") -> Object:
    """The object of that id. Raises ``Refusal`` 404 resource_missing as Stripe words it."""
    if key not in table:
        raise Refusal(404, f"No such {noun}: '{key}'", code="resource_missing", param=param)
    return table[key]


def flag(value: object) -> bool:
    return value is True or str(value).lower() == "true"


def page(objects: Iterable[Object], params: Object, url: str, *, newest_first: bool = True) -> Object:
    """A list answer: ``limit`` 1 to 100, default 10, ``starting_after``/``ending_before`` an id."""
    limit = int(params.get("limit", 10))
    if not 1 <= limit <= 100:
        raise Refusal(400, "Invalid integer: limit must be between 1 and 100", param="limit")
    rows = list(objects)[:: -1 if newest_first else 1]
    ids = [row["id"] for row in rows]
    if "ending_before" in params:
        end = _place(ids, params["ending_before"], "ending_before")
        start = max(0, end - limit)
        return {"object": "list", "data": rows[start:end], "has_more": start > 0, "url": url}
    start = _place(ids, params["starting_after"], "starting_after") + 1 if "starting_after" in params else 0
    return {
        "object": "list",
        "data": rows[start : start + limit],
        "has_more": len(rows) > start + limit,
        "url": url,
    }


def _place(ids: list[str], key: str, param: str) -> int:
    if key not in ids:
        raise Refusal(400, f"No such object: '{key}'", code="resource_missing", param=param)
    return ids.index(key)
