"""A share of a quota that a tenant reached: written down once, with the notices that go out."""

import logging
from collections.abc import Callable

from sidecar.core.accounts import Notice
from sidecar.core.credit_store import CrossingStore
from sidecar.core.crossings import Crossing
from sidecar.core.policy import Quota, Snapshot

KIND = "quota.threshold"
log = logging.getLogger("sidecar.billing")


class ThresholdTeller:
    def __init__(self, store: CrossingStore, snapshot: Callable[[], Snapshot]) -> None:
        self._store = store
        self._snapshot = snapshot

    async def tell(self, crossing: Crossing, plan: str, quota: Quota) -> bool:
        """True when nobody has told it before. StoreError."""
        channels = self._snapshot().settings.billing.notices.channels
        if not await self._store.cross(crossing, notices_of(crossing, plan, quota, channels)):
            return False
        log.info(
            "%s has used %d %% of the quota %s of the plan %s: %d of %d",
            *(crossing.tenant, crossing.threshold, crossing.name, plan, crossing.used, crossing.limit),
        )
        return True


def notices_of(crossing: Crossing, plan: str, quota: Quota, channels: tuple[str, ...]) -> list[Notice]:
    """One for each channel. Names hold no colon, so ids are of one crossing each."""
    parts = (crossing.tenant, crossing.name, crossing.start_s, crossing.threshold, crossing.limit)
    facts: dict[str, str | int] = {
        "tenant": crossing.tenant,
        "plan": plan,
        "quota": crossing.name,
        "meter": quota.meter,
        "threshold": crossing.threshold,
        "limit": crossing.limit,
        "used": crossing.used,
        "overage": quota.overage,
        "until": crossing.end_s,
    }
    id = f"{KIND}:{':'.join(map(str, parts))}"
    return [Notice(id, channel, KIND, crossing.tenant, facts, crossing.at_ns) for channel in channels]
