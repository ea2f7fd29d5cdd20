"""A paying tenant's account, as the payee has it, and what follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sidecar.core.billing import Period
from sidecar.core.values import AccessState, Tenant


@dataclass(frozen=True, slots=True)
class Account:
    """What the payee said of a tenant when it was last read, and what follows from it.

    ``status``: the subscription's, in the payee's words; empty before there is one. ``plan``: what the subscription
    bought, None: the tenant's own. ``access``: what follows from payment (the tenant has the worse of this and its own
    state); ``until_ns``: when it ends by itself (of a grace, a read-only time), None: never. ``periods``: ascending,
    the newest few. ``ends_s``: when the subscription is going to end, if that is known. Times in Unix nanoseconds.
    """

    tenant: str
    customer: str
    subscription: str | None = None
    status: str = ""
    plan: str | None = None
    access: AccessState = AccessState.ACTIVE
    since_ns: int = 0
    until_ns: int | None = None
    trial_until_s: int | None = None
    ends_s: int | None = None
    periods: tuple[Period, ...] = ()
    read_ns: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook's event as it was stored. ``object_id``: what it is about; ``payload``: the verified JSON text."""

    id: str
    type: str
    object_id: str
    payload: str
    at_ns: int
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell the operator or the tenant, once by each channel. ``id`` dedupes: one fact has one id.

    ``channel``: ``webhook`` or ``email``; whoever makes a notice makes one for each. ``kind``: ``access.read_only``,
    ``billing.parity`` and so on; ``tenant`` empty: the operator's alone. ``facts``: what the texts are made of; no
    secret.
    """

    id: str
    channel: str
    kind: str
    tenant: str
    facts: Mapping[str, str | int]
    at_ns: int
    attempts: int = 0
    next_ns: int = 0


class Standing(Protocol):
    """What payment makes of a tenant."""

    async def standing(self, tenant: Tenant) -> Tenant:
        """The tenant with the account's plan, where it has one, and the worse of both access states."""
        ...
