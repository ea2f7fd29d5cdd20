"""The book beside the invoice, written down before the invoice is final and once more when it is.

What the invoice lacks is looked up and sent again while it is a draft; a person is told while there is still time to
change something, and the record stays.
"""

from collections.abc import Sequence

from sidecar.billing.pace import together
from sidecar.billing.reconcile.report import Book, Reporter
from sidecar.billing.reconcile.verifier import Verifier
from sidecar.core.accounts import Account, Bills, Notice
from sidecar.core.billing import Parity, Period
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError, StoreError

WATCHED_S = 4 * 86_400  # after a period's end: the longest grace, and a day
SETTLE_S = 1_200  # after its end a period is compared: its last window was sent ten minutes ago
TELL_S = 2_100  # what differs is told: until then it was sent again, twice
MOST_RECORDS = 1_000_000  # of the last eight days, about a kilobyte each while they are looked through
_PAGE = 500


class ParityKeeper:
    """``meters``: meter to event name. ``channels``: whom a difference is told by. ``differing``: periods whose book
    does not agree with the invoice, (tenant, meter, period's end), of those that are still watched."""

    def __init__(
        self,
        store: Book,
        reporter: Reporter,
        bills: Bills,
        verifier: Verifier,
        meters: dict[str, str],
        channels: Sequence[str],
        clock: Clock,
    ) -> None:
        self._store = store
        self._reporter = reporter
        self._bills = bills
        self._verifier = verifier
        self._meters = meters
        self._channels = tuple(channels)
        self._clock = clock
        self.differing: set[tuple[str, str, int]] = set()
        self._failure: SidecarError | None = None

    async def keep(self) -> int:
        """Looks at every period that ended lately and has no final record; how many records were written. StoreError;
        another SidecarError when the payee could not be asked of some account (the others were)."""
        now_s = self._clock.wall_ns() // NS_PER_S
        since_ns = (now_s - 2 * WATCHED_S) * NS_PER_S
        kept = await self._store.parities(since_ns=since_ns, limit=MOST_RECORDS)
        done = {(parity.tenant, parity.meter, parity.period) for parity in kept if parity.final}
        # Of the records, not of memory: who is started anew goes on saying what differs.
        self.differing = {_key(p) for p in kept if _is_told(p) and now_s - p.period.end_s <= WATCHED_S}
        after, written = "", 0
        self._failure = None
        while page := await self._store.accounts(after=after, limit=_PAGE):
            ended = [
                (account, period)
                for account in page
                for period in account.periods
                if SETTLE_S <= now_s - period.end_s <= WATCHED_S
            ]
            written += sum(await together(self._tried(account, period, now_s, done) for account, period in ended))
            after = page[-1].tenant
        if self._failure is not None:
            raise self._failure
        return written

    async def _tried(self, account: Account, period: Period, now_s: int, done: set[tuple[str, str, Period]]) -> int:
        """A payee that cannot be asked of one account may still be asked of the others."""
        try:
            return await self._period(account, period, now_s, done)
        except StoreError:
            raise
        except SidecarError as error:
            self._failure = error
            return 0

    async def _period(self, account: Account, period: Period, now_s: int, done: set[tuple[str, str, Period]]) -> int:
        open_meters = {m: e for m, e in self._meters.items() if (account.tenant, m, period) not in done}
        if not open_meters:
            return 0
        bill = await self._bills.bill(account, period)
        if bill is None:
            return 0
        for meter, event_name in open_meters.items():
            line = await self._reporter.line(account, meter, event_name, period, now_s)
            parity = Parity(
                tenant=account.tenant,
                customer=account.customer,
                meter=meter,
                period=period,
                invoice=bill.invoice,
                ledger=line.ledger,
                assigned=line.assigned,
                accepted=line.accepted,
                verified=line.verified,
                payee=line.payee if line.payee is not None else 0,
                billed=bill.quantities.get(event_name, 0 if bill.final else None),
                final=bill.final,
                at_ns=self._clock.wall_ns(),
            )
            await self._tell(parity)  # first: a final record is the last one, and nobody would tell of it again
            await self._store.save_parity(parity)
            if not bill.final and line.payee is not None and line.payee < line.assigned:
                await self._verifier.look_again(event_name, account.customer, period)
        return len(open_meters)

    async def _tell(self, parity: Parity) -> None:
        if not _is_told(parity):
            self.differing.discard(_key(parity))
            return
        self.differing.add(_key(parity))
        facts: dict[str, str | int] = {
            "meter": parity.meter,
            "invoice": parity.invoice,
            "ledger": parity.ledger,
            "payee": parity.payee,
            "billed": -1 if parity.billed is None else parity.billed,
            "final": int(parity.final),
        }
        name = f"billing.parity/{parity.tenant}/{parity.meter}/{parity.invoice}/{int(parity.final)}"
        await self._store.notify(
            [Notice(name, channel, "billing.parity", parity.tenant, facts, parity.at_ns) for channel in self._channels]
        )


def _key(parity: Parity) -> tuple[str, str, int]:
    return parity.tenant, parity.meter, parity.period.end_s


def _is_told(parity: Parity) -> bool:
    """Whether it differs, and not only for what is on its way."""
    late = parity.at_ns // NS_PER_S - parity.period.end_s >= TELL_S
    return not parity.agrees and (parity.final or late)
