"""What a tenant of the store has of its own, read as the policies are: the same keys, the same faults."""

import json
from collections.abc import Mapping
from typing import Any

from sidecar.config.checks.overrides import cap_fault, faults
from sidecar.config.overrides import OVERRIDES
from sidecar.config.policies import ANCHOR, ZONE
from sidecar.config.reading import INVALID, Reading
from sidecar.config.tables import Field, Record, Table
from sidecar.config.tree import TreeError, parse
from sidecar.core.policy import Plan
from sidecar.core.values import Terms

TERMS = Table(
    "terms",
    "What a tenant has of its own.",
    Terms,
    (
        Field("anchor", Record(ANCHOR), "When its billing periods begin."),
        Field("time_zone", ZONE, "Of its billing periods."),
        Field("overrides", Record(OVERRIDES), "What it has instead of its plan's numbers."),
    ),
)


class TenantTerms:
    """Reads and shows them."""

    def read(self, given: Mapping[str, Any], plan: Plan | None) -> Terms:
        """``given``: as in ``tenants:`` of the policies. ValueError with every fault; ``plan`` None: its names are not
        looked at."""
        reading = Reading({})
        try:
            root = parse(json.dumps(given).encode())
        except TreeError as error:
            raise ValueError(error.message) from None
        terms = INVALID if root is None else TERMS.read(root, "", reading)
        told = [f"{fault.path}: {fault.message}" for fault in reading.faults]
        if told or not isinstance(terms, Terms):
            raise ValueError("; ".join(told) or "the terms are empty")
        if terms.overrides is not None and plan is not None:
            cap = cap_fault(plan, terms.overrides)
            wrong = [message for _, message in faults(plan, terms.overrides)] + ([cap] if cap else [])
            if wrong:
                raise ValueError("; ".join(wrong))
        return terms

    def show(self, terms: Terms) -> dict[str, Any]:
        """The mapping that makes them; empty when there are none."""
        return {key: value for key, value in TERMS.show(terms).items() if value}
