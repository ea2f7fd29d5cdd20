"""A share of a budget that a tenant reached: told once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Crossing:
    """``name`` is the quota's; the period is [start_s, end_s) in Unix seconds; ``threshold`` in percent of ``limit``.

    Once is: for these of tenant, name, start_s, threshold and limit. A changed limit is another fact.
    """

    tenant: str
    name: str
    start_s: int
    end_s: int
    threshold: int
    limit: int
    used: int
    at_ns: int
