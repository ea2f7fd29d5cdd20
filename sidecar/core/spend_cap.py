"""What a plan says of the most money that its metered use may cost."""

from dataclasses import dataclass, field

from sidecar.core.money import Money
from sidecar.core.origin import Origin
from sidecar.core.periods import Cycle


@dataclass(frozen=True, slots=True)
class SpendCap:
    """At most so much money for metered use per ``period`` (as in Quota) and tenant, beyond the base fee.

    ``overage``: ``block`` refuses, ``allow`` counts on and lets pass. ``on_store_error``: while nodes that share it
    cannot reach the store, ``deny`` or ``allow``.
    """

    limit: Money
    period: str = "month"
    time_zone: str = "UTC"
    overage: str = "block"
    on_store_error: str = "deny"
    origin: Origin = field(default=Origin(), compare=False)

    def cycle(self, billing: str) -> str:
        """As Quota's."""
        return billing if self.period == "billing" else Cycle(self.period, self.time_zone).text
