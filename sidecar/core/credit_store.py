"""What credits and thresholds need from a store. Adapters live in ``sidecar.storage``."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sidecar.core.accounts import Notice
from sidecar.core.credits import Book, CreditHistory, Grant, Share
from sidecar.core.crossings import Crossing


class CreditStore(Protocol):
    """Grants by tenant and source. Every method raises StoreError."""

    async def add_grant(self, grant: Grant, *, actor: str) -> tuple[Grant, bool]:
        """The stored one, and whether it is new: the same source is granted once. Audit row (``credits.grant``) and a
        new keys_version with it. Conflict when the source was granted with another amount or currency, or the tenant
        has MOST_GRANTS that may still be burned."""
        ...

    async def revoke_grant(self, tenant: str, source: str, *, at_ns: int, actor: str) -> Grant:
        """It is not burned from ``at_ns`` on; an earlier end stays. Audit row and keys_version as above. NotFound."""
        ...

    async def grants(self, tenant: str, *, after: str = "", limit: int = 100) -> list[Grant]:
        """By source, ascending, ended ones too."""
        ...

    async def credit(self, tenant: str) -> tuple[Book | None, list[Grant]]:
        """At one moment: what is settled (None: nothing yet), and the grants that may be burned after it."""
        ...

    async def credit_history(self, tenant: str, *, begin: int, end: int) -> CreditHistory:
        """At one moment: ``credit``, and what is known of the Unix minutes [begin, end)."""
        ...

    async def settle_credits(
        self, book: Book, burned: Mapping[str, int], *, if_until: int | None, shares: Sequence[Share] = ()
    ) -> bool:
        """In one transaction, while the stored book ends at ``if_until`` (None: there is none): the new book, what is
        burned of each source, and who paid for what since. False and nothing otherwise."""
        ...


class CrossingStore(Protocol):
    async def cross(self, crossing: Crossing, notices: Sequence[Notice]) -> bool:
        """Writes it down, and the notices with it, in one transaction; False and nothing when it is known. Those whose
        period ended 40 days before are forgotten."""
        ...
