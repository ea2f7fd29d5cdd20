"""Meters, their events, adjustments and summaries.

After docs.stripe.com "Configure meters" (event_time_window: the newest received of the hour or day counts), "Record
usage" (identifier, 35 days, 5 minutes, error events) and the OpenAPI texts of meter_events and event_summaries.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from operator import attrgetter

from demo.fakestripe.state import DAY_S, NS, Object, Refusal, World, found, page

WIDTHS = {"hour": 3600, "day": DAY_S}
PAST_S, FUTURE_S, DIGITS = 35 * DAY_S, 300, 15


@dataclass(frozen=True, slots=True)
class Usage:
    """An accepted event. ``order`` counts receipts."""

    identifier: str
    timestamp_s: int
    value: Decimal
    received_ns: int
    order: int


@dataclass(slots=True)
class Report:
    """Asynchronous rejections of one meter (None: of no meter) within one validation window."""

    meter: Object | None
    begin_s: int
    errors: list[tuple[str, str, str]]


class Meters:
    """The meters of the account and all that was reported to them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.usage: dict[tuple[str, str], list[Usage]] = {}
        self.seen: OrderedDict[str, int] = OrderedDict()  # identifier to receipt; older than dedupe_s is dropped
        self.reports: list[Report] = []
        self.received = 0

    def create(self, params: Object) -> Object:
        name = params["event_name"]
        if any(m["event_name"] == name and m["status"] == "active" for m in self.world.meters.values()):
            raise Refusal(400, f"An active meter already exists with event name `{name}`.", param="event_name")
        now = self.world.now_s()
        meter: Object = {
            "id": self.world.id("mtr"),
            "object": "billing.meter",
            "created": now,
            "updated": now,
            "livemode": False,
            "status": "active",
            "display_name": params["display_name"],
            "event_name": name,
            "default_aggregation": {"formula": params["default_aggregation"]["formula"]},
            "customer_mapping": params.get(
                "customer_mapping", {"type": "by_id", "event_payload_key": "stripe_customer_id"}
            ),
            "value_settings": params.get("value_settings", {"event_payload_key": "value"}),
            "event_time_window": params.get("event_time_window"),
            "status_transitions": {"deactivated_at": None},
        }
        self.world.meters[meter["id"]] = meter
        self.world.emit("billing.meter.created", meter)
        return meter

    def retrieve(self, key: str, params: Object) -> Object:
        return found(self.world.meters, key, "billing meter")

    def update(self, key: str, params: Object) -> Object:
        meter = found(self.world.meters, key, "billing meter")
        meter.update(display_name=params.get("display_name", meter["display_name"]), updated=self.world.now_s())
        return meter

    def list(self, params: Object) -> Object:
        rows = [m for m in self.world.meters.values() if params.get("status") in (None, m["status"])]
        return page(rows, params, "/v1/billing/meters")

    def deactivate(self, key: str, params: Object) -> Object:
        return self._switch(key, "inactive", self.world.now_s())

    def reactivate(self, key: str, params: Object) -> Object:
        return self._switch(key, "active", None)

    def _switch(self, key: str, status: str, at: int | None) -> Object:
        meter = found(self.world.meters, key, "billing meter")
        if meter["status"] == status:
            raise Refusal(400, f"The meter is already {status}.")
        meter.update(status=status, status_transitions={"deactivated_at": at}, updated=self.world.now_s())
        self.world.emit(f"billing.meter.{'deactivated' if at else 'reactivated'}", meter)
        return meter

    def named(self, event_name: str) -> Object | None:
        """The active meter of that event name, else the newest inactive one."""
        rows = [m for m in self.world.meters.values() if m["event_name"] == event_name]
        return next((m for m in rows if m["status"] == "active"), rows[-1] if rows else None)

    def event(self, params: Object, now_ns: int) -> Object:
        """One event as POST /v1/billing/meter_events takes it. Raises ``Refusal`` for what is refused at once."""
        payload = params.get("payload")
        if not isinstance(payload, dict) or not all(isinstance(v, str) for v in payload.values()):
            raise Refusal(400, "Invalid payload: the values must be strings.", param="payload")
        extra = set(params) - {"event_name", "payload", "identifier", "timestamp", "expand"}
        if extra or "event_name" not in params:
            name = min(extra, default="event_name")
            raise Refusal(400, f"Received unknown or missing parameter: {name}", code="parameter_unknown", param=name)
        now_s, identifier = now_ns // NS, params.get("identifier") or self.world.id("evt")
        stamp = int(params.get("timestamp", now_s))
        self._refuse_duplicate(identifier, now_ns)
        meter = self.named(params["event_name"])
        code, value = self._fault(meter, payload, stamp, now_s)
        if code and code not in self.world.knobs.asynchronous:
            raise Refusal(400, MESSAGES[code], code=code)
        if code is None or self.world.knobs.rejected_keeps_identifier:
            self.seen[identifier] = now_ns
        if code:
            self._reject(meter, code, identifier, now_s)
        elif meter is not None:
            self.received += 1
            customer = payload[meter["customer_mapping"]["event_payload_key"]]
            row = Usage(identifier, stamp, value, now_ns, self.received)
            self.usage.setdefault((meter["id"], customer), []).append(row)
        return {
            "object": "billing.meter_event",
            "created": now_s,
            "event_name": params["event_name"],
            "identifier": identifier,
            "livemode": False,
            "payload": dict(payload),
            "timestamp": stamp,
        }

    def _refuse_duplicate(self, identifier: str, now_ns: int) -> None:
        oldest = now_ns - self.world.knobs.dedupe_s * NS
        while self.seen and next(iter(self.seen.values())) <= oldest:
            self.seen.popitem(last=False)
        if self.seen.get(identifier, oldest) > oldest:
            raise Refusal(400, f"An event already exists with identifier {identifier}.")
        self.seen.pop(identifier, None)

    def _fault(self, meter: Object | None, payload: Object, stamp: int, now_s: int) -> tuple[str | None, Decimal]:
        zero = Decimal(0)
        if stamp < now_s - PAST_S:
            return "timestamp_too_far_in_past", zero
        if stamp > now_s + FUTURE_S:
            return "timestamp_in_future", zero
        if meter is None:
            return "no_meter", zero
        if meter["status"] != "active":
            return "archived_meter", zero
        customer = payload.get(meter["customer_mapping"]["event_payload_key"])
        if not customer:
            return "meter_event_no_customer_defined", zero
        if customer not in self.world.customers or self.world.customers[customer].get("deleted"):
            return "meter_event_customer_not_found", zero
        return _value(payload.get(meter["value_settings"]["event_payload_key"], "1" if _counts(meter) else ""))

    def _reject(self, meter: Object | None, code: str, identifier: str, now_s: int) -> None:
        begin = now_s // 10 * 10
        for report in self.reports:
            if report.begin_s == begin and report.meter is meter:
                report.errors.append((code, identifier, MESSAGES[code]))
                return
        self.reports.append(Report(meter, begin, [(code, identifier, MESSAGES[code])]))

    def due_s(self) -> int | None:
        """When the next report is due, Unix seconds."""
        return min((r.begin_s + self.world.knobs.report_after_s for r in self.reports), default=None)

    def run(self, now_s: int) -> None:
        """Reports what is due as thin events; a sample of five rejections per code, as documented a sample only."""
        late = [r for r in self.reports if r.begin_s + self.world.knobs.report_after_s <= now_s]
        self.reports = [r for r in self.reports if r not in late]
        for report in late:
            related: Object = {}
            if report.meter is not None:
                key = report.meter["id"]
                related = {"id": key, "type": "billing.meter", "url": f"/v1/billing/meters/{key}"}
            name = "error_report_triggered" if report.meter else "no_meter_found"
            self.world.emit_thin(f"v1.billing.meter.{name}", related, _report(report))

    def cancel(self, params: Object, now_ns: int) -> Object:
        """Takes an event of the last 24 hours back."""
        identifier = params.get("cancel", {}).get("identifier")
        if params.get("type") != "cancel" or not identifier:
            raise Refusal(400, "A cancel adjustment needs cancel[identifier].", param="cancel")
        meter = self.named(params["event_name"])
        for (key, _), rows in self.usage.items():
            for row in rows:
                if meter is None or key != meter["id"] or row.identifier != identifier:
                    continue
                if now_ns - row.received_ns > DAY_S * NS:
                    raise Refusal(400, "Only events received within the last 24 hours can be cancelled.")
                rows.remove(row)
                return {
                    "object": "billing.meter_event_adjustment",
                    "event_name": params["event_name"],
                    "livemode": False,
                    "status": "pending",
                    "type": "cancel",
                    "cancel": {"identifier": identifier},
                }
        raise Refusal(404, f"No such meter event: '{identifier}'", code="resource_missing", param="cancel[identifier]")

    def total(self, meter: Object, customer: str, start_s: int, end_s: int, seen_ns: int | None = None) -> Decimal:
        """The aggregate of [start_s, end_s); ``seen_ns``: of what was received until then only."""
        rows = self.usage.get((meter["id"], customer), [])
        rows = [r for r in rows if seen_ns is None or r.received_ns <= seen_ns]
        if width := WIDTHS.get(meter["event_time_window"] or ""):
            newest: dict[int, Usage] = {}
            for row in sorted(rows, key=attrgetter("order")):
                newest[row.timestamp_s // width] = row
            rows = list(newest.values())
        rows = [r for r in rows if start_s <= r.timestamp_s < end_s]
        if meter["default_aggregation"]["formula"] == "count":
            return Decimal(len(rows))
        if meter["default_aggregation"]["formula"] == "last":
            return max(rows, key=lambda r: (r.timestamp_s, r.order)).value if rows else Decimal(0)
        return sum((r.value for r in rows), Decimal(0))

    def summaries(self, key: str, params: Object) -> Object:
        meter = found(self.world.meters, key, "billing meter")
        start, end, group = int(params["start_time"]), int(params["end_time"]), params.get("value_grouping_window")
        width = WIDTHS.get(group or "", 60)
        for name, value in (("start_time", start), ("end_time", end)):
            if value % width:
                raise Refusal(400, f"{name} must be aligned with {group or 'minute'} boundaries.", param=name)
        if end <= start:
            raise Refusal(400, "end_time must be after start_time.", param="end_time")
        seen = self.world.now_ns() - self.world.knobs.summary_lag_s * NS
        step = width if group else end - start
        touched = {(r.timestamp_s - start) // step for r in self.usage.get((key, params["customer"]), [])}
        rows = []
        for number in sorted(n for n in touched if 0 <= n < (end - start) // step):
            begin = start + number * step
            total = self.total(meter, params["customer"], begin, begin + step, seen)
            rows.append(_summary(key, params["customer"], begin, begin + step, float(total)))
        if not group and not rows:
            rows = [_summary(key, params["customer"], start, end, 0.0)]
        return page(rows, params, f"/v1/billing/meters/{key}/event_summaries")


def _counts(meter: Object) -> bool:
    return bool(meter["default_aggregation"]["formula"] == "count")


MESSAGES = {
    "no_meter": "No meter found for the event name.",
    "archived_meter": "The meter is inactive.",
    "meter_event_no_customer_defined": "The payload has no customer.",
    "meter_event_customer_not_found": "The customer of the payload does not exist.",
    "meter_event_invalid_value": "The value of the payload is not a number.",
    "meter_event_value_too_many_digits": "The value has more than 15 significant digits.",
    "timestamp_too_far_in_past": "The timestamp is more than 35 days in the past.",
    "timestamp_in_future": "The timestamp is more than 5 minutes in the future.",
}


def _value(text: str) -> tuple[str | None, Decimal]:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return "meter_event_invalid_value", Decimal(0)
    if not value.is_finite():
        return "meter_event_invalid_value", Decimal(0)
    digits = "".join(map(str, value.as_tuple().digits)).strip("0")
    return ("meter_event_value_too_many_digits" if len(digits) > DIGITS else None), value


def _summary(meter: str, customer: str, start: int, end: int, value: float) -> Object:
    return {
        "id": f"mtrusg_{meter[4:]}_{customer}_{start}_{end}",
        "object": "billing.meter_event_summary",
        "aggregated_value": value,
        "start_time": start,
        "end_time": end,
        "livemode": False,
        "meter": meter,
    }


def _report(report: Report) -> Object:
    kinds = []
    for code in sorted({e[0] for e in report.errors}):
        rows = [e for e in report.errors if e[0] == code]
        samples = [{"error_message": text, "request": {"identifier": key}} for _, key, text in rows[:5]]
        kinds.append({"code": code, "error_count": len(rows), "sample_errors": samples})
    count = len(report.errors)
    return {
        "developer_message_summary": f"There {'is' if count == 1 else 'are'} {count} invalid event(s)",
        "reason": {"error_count": count, "error_types": kinds},
        "validation_start": _stamp(report.begin_s),
        "validation_end": _stamp(report.begin_s + 10),
    }


def _stamp(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
