"""What the calls of a tenant use of meters, for budgets in money.

Not compiled: it is held weakly, which a compiled class does not allow.
"""

from collections.abc import Mapping, Sequence


class Used:
    """What calls of one tenant hold of meters now, and what they have used since the process began, under whichever
    plan: the ledger knows tenants and meters, so every account of a tenant counts all of it. ``changes`` counts."""

    __slots__ = ("__weakref__", "changes", "held", "settled")

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.settled: dict[str, int] = {}
        self.changes = 0

    def hold(self, meters: Sequence[str], units: Sequence[int]) -> None:
        held = self.held
        for meter, more in zip(meters, units, strict=True):
            held[meter] = held.get(meter, 0) + more
        self.changes += 1

    def settle(self, values: Mapping[str, int]) -> None:
        settled = self.settled
        for meter, value in values.items():
            settled[meter] = settled.get(meter, 0) + value
        self.changes += 1
