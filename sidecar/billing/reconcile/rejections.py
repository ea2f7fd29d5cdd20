"""What Stripe says of events that it took with 200 and refused afterwards.

Its report names a few of them, not all: those wait for a person, with the reason. The rest is found by comparing sums.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.billing.stripe import StripeClient, StripeFault, ask
from sidecar.core.accounts import Notice
from sidecar.core.billing import OutboxRow, RowQuery
from sidecar.core.billing_store import BillingStore
from sidecar.core.clock import Clock

REPORTS = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
READ_EVENTS = "Events: Read"
MOST_NAMED = 1_000  # events of one report that are looked at
# An identifier of ours; behind it the round, where Stripe names the idempotency key instead.
_OURS = re.compile(r"([a-z2-7]{8}):[0-9a-f]{8}:(.+?):(\d{1,12})(?::v\d+)?(?:~\d+)?")
_log = logging.getLogger("sidecar.billing")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One event of a report."""

    identifier: str
    code: str
    message: str


class Rejections:
    """Of one store. ``channels``: whom a report is told by."""

    def __init__(
        self, store: BillingStore, client: StripeClient, channels: Callable[[], tuple[str, ...]], clock: Clock
    ) -> None:
        self._store = store
        self._client = client
        self._channels = channels
        self._clock = clock

    async def learn(self, event_id: str) -> str:
        """Reads the report, marks the rows it names, and tells; what was done, in words. StripeFault, StoreError."""
        found = await ask(self._client, self._client.v2.core.events.retrieve_async(event_id), READ_EVENTS)
        report = found.to_dict() if hasattr(found, "to_dict") else None
        reason = _map(_map(_map(report).get("data")).get("reason"))
        if not reason:
            raise StripeFault("Stripe's report of refused events cannot be read")
        marked = 0
        instance = await self._store.instance()
        for refusal in list(_named(reason))[:MOST_NAMED]:
            marked += await self._mark(refusal, instance)
        count = reason.get("error_count")
        codes = ", ".join(sorted({str(_map(kind).get("code")) for kind in _list(reason.get("error_types"))}))[:200]
        _log.error("Stripe refused %s events that it had taken: %s; %d rows wait for a person", count, codes, marked)
        await self._tell(event_id, {"count": count if type(count) is int else -1, "codes": codes, "rows": marked})
        return f"{marked} rows were refused: {codes}"

    async def _mark(self, refusal: Refusal, instance: str) -> int:
        row = await self._row(refusal.identifier, instance)
        if row is None or row.state != "accepted":
            return 0
        note = self._client.hide(f"{refusal.code}: {refusal.message}")[:200]
        await self._store.settle(
            row.id, "rejected", at_ns=self._clock.wall_ns(), http=row.http, request_id=row.request_id, note=note
        )
        return 1

    async def _row(self, identifier: str, instance: str) -> OutboxRow | None:
        match = _OURS.fullmatch(identifier)
        if match is None or match[1] != instance:
            return None
        minute = int(match[3])
        query = RowQuery(customer=match[2], since=minute, until=minute + 1)
        plain = identifier.partition("~")[0]
        return next((row for row in await self._store.rows(query) if row.identifier == plain), None)

    async def _tell(self, event_id: str, facts: dict[str, str | int]) -> None:
        name, now_ns = f"billing.refused/{event_id}", self._clock.wall_ns()
        await self._store.notify(
            [Notice(name, channel, "billing.refused", "", facts, now_ns) for channel in self._channels()]
        )


def _named(reason: Mapping[str, Any]) -> Iterator[Refusal]:
    for kind in _list(reason.get("error_types")):
        for sample in _list(_map(kind).get("sample_errors")):
            asked = _map(_map(sample).get("request"))
            identifier = asked.get("identifier") or asked.get("idempotency_key")
            if isinstance(identifier, str):
                yield Refusal(identifier, str(_map(kind).get("code")), str(_map(sample).get("error_message")))


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
