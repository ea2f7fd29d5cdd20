"""What a difference is called, and what is done about it."""

from dataclasses import dataclass

# Kind to what a person does; the first two heal by themselves while the period is open.
KINDS = {
    "unassigned": "usage is in the ledger and not in the outbox yet; it is assigned by itself within minutes",
    "missing": "the payee took it and does not have it; it is sent again by itself while its period is open",
    "duplicate": "the payee counts it more than once; give a credit note, or cancel the event within 24 hours",
    "conflict": "the payee's sum of the minute is not ours; if nothing is there run `sidecar outbox carry`, else look "
    "who else sends to this meter",
    "rejected": "the payee refused it; mend what its note says, then run `sidecar outbox retry`",
    "expired": "it is older than the payee takes; bill it by an invoice item, then run `sidecar outbox drop`",
    "late": "known only after its invoice; `sidecar outbox carry` bills it in the open period, `drop` writes it off",
    "foreign": "the payee has usage that is not in this book; look who else sends to this meter",
    "wrong_customer": "it was sent for a customer that the tenant has no more; move it at the payee by a credit note",
    "wrong_period": "it stands in another period than the one in which it was used: it was carried there",
    "overassigned": "more was billed than the ledger holds: the ledger lost entries, such as by an old copy put back",
    "misbilled": "the invoice is final and asks for another quantity; give a credit note, or bill an invoice item",
    "unreadable": "the payee's sums cannot be read; its note says why",
}

# States of rows that wait for a person, and what a difference by them is called.
WAITING = {"rejected": "rejected", "expired": "expired", "held": "late", "conflict": "conflict"}


@dataclass(frozen=True, slots=True)
class Difference:
    """``kind``: one of KINDS. ``minute``: the Unix minute it stands in, None: the whole period. ``ours``, ``theirs``:
    units of the meter; None: not known."""

    kind: str
    tenant: str
    customer: str
    meter: str
    ours: int | None
    theirs: int | None
    minute: int | None = None
    note: str = ""

    @property
    def action(self) -> str:
        return KINDS[self.kind]
