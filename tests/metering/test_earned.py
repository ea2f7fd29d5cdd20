"""When credits' money is earned: whatever time is asked for, and whatever was settled before, it adds up."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits import NS_PER_MINUTE, Book, CreditHistory, Grant, Share
from sidecar.core.money import Money
from sidecar.core.policy import MeterPrice, Price
from sidecar.core.spend import spend_terms
from sidecar.metering import Recognised, Use, burned, recognised

DAY = 1440
MONTH = 20_758 * DAY  # 2026-11-01T00:00:00Z, a Unix minute
END = MONTH + 30 * DAY


class Ledger:
    """One meter's use by minute, at ``micros`` a unit beyond three that are included."""

    def __init__(self, used: dict[int, int], micros: int = 7) -> None:
        self.used = used
        self.terms = spend_terms(price_of_unit(micros), "month", None, True)

    @property
    def use(self) -> Use:
        return Use("acme", self.terms, self.total)

    async def total(self, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        return sum(n for minute, n in self.used.items() if since_us <= minute * 60_000_000 < until_us)


def price_of_unit(micros: int) -> Price:
    return Price(Money(Fraction(0), "USD"), (MeterPrice("calls", 3, 1, Money(Fraction(micros, 10**6), "USD")),))


def history(grants: Sequence[Grant], book: Book | None = None, shares: Sequence[Share] = ()) -> CreditHistory:
    """As a store tells it: grants that are open, and those that expired."""
    until = 0 if book is None else book.until
    still = [grant for grant in grants if grant.burned < grant.amount and grant.end > until]
    return CreditHistory(book, still, shares, [grant for grant in grants if grant.expires_ns is not None])


def settled_at(grants: Sequence[Grant], found: Sequence[Share], until: int) -> CreditHistory:
    """Everything before the minute ``until`` is settled, of which ``found`` tells."""
    known = [share for share in found if share.end <= until]
    kept = [replace(g, burned=sum(s.amount for s in known if s.source == g.source)) for g in grants]
    return history(kept, Book("acme", until), known)


minutes = st.integers(MONTH - 40 * DAY, END - 1)
grants = st.lists(
    st.builds(
        lambda number, amount, given, begin, length, revoked: Grant(
            "acme", f"s{number}", amount, "USD", begin * NS_PER_MINUTE, number % 3,
            None if length is None else (begin + length) * NS_PER_MINUTE,
            None if revoked is None else (begin + revoked) * NS_PER_MINUTE, bonus=amount * given // 4,
        ),
        st.integers(0, 10**6), st.integers(1, 4000), st.integers(0, 4), minutes,
        st.none() | st.integers(1, 60 * DAY), st.none() | st.integers(1, 60 * DAY),
    ),
    max_size=5, unique_by=lambda made: made.source,
)  # fmt: skip
used = st.dictionaries(minutes, st.integers(1, 60), max_size=12)
edges = st.lists(minutes, min_size=1, max_size=4, unique=True).map(lambda at: sorted({MONTH - 41 * DAY, *at, END}))


@given(grants, used, edges)
async def test_whatever_time_is_cut_into_earns_the_same(
    found: list[Grant], used: dict[int, int], cuts: list[int]
) -> None:
    ledger, whole = Ledger(used), (cuts[0], END)
    (all_of_it,) = await recognised(ledger.use, history(found), "USD", [whole], END)
    parts = await recognised(ledger.use, history(found), "USD", list(pairwise(cuts)), END)
    assert sum(part.used for part in parts) == all_of_it.used
    assert sum(part.expired for part in parts) == all_of_it.expired
    alone = [(await recognised(ledger.use, history(found), "USD", [cut], END))[0] for cut in pairwise(cuts)]
    assert alone == parts, "what is asked for beside it changes nothing"


@given(grants, used)
async def test_a_grant_earns_what_was_paid_and_no_more(found: list[Grant], used: dict[int, int]) -> None:
    (earned,) = await recognised(Ledger(used).use, history(found), "USD", [(MONTH - 41 * DAY, END)], END)
    burns = await burned(Ledger(used).use, None, found, END - 1)
    by_source = {grant.source: grant for grant in burns.grants}
    assert earned.used == sum(grant.earned(by_source[grant.source].burned) for grant in found)
    gone = [
        grant for grant in found
        if grant.expires_ns is not None and grant.end < END
        and (grant.revoked_ns is None or grant.revoked_ns >= grant.expires_ns)
    ]  # fmt: skip
    assert earned.expired == sum(grant.paid - grant.earned(by_source[grant.source].burned) for grant in gone)
    assert 0 <= earned.used + earned.expired <= sum(grant.paid for grant in found)


@given(grants, used, edges)
async def test_what_was_settled_earns_as_before(found: list[Grant], used: dict[int, int], cuts: list[int]) -> None:
    """Periods that lie within are told from what was settled of them; where one is cut, by a micro-unit for each
    share."""
    ledger, parts = Ledger(used), list(pairwise(cuts))
    before = await recognised(ledger.use, history(found), "USD", parts, END)
    burns = await burned(ledger.use, None, found, END - 1)
    after = await recognised(ledger.use, settled_at(found, burns.shares, MONTH), "USD", parts, END)
    assert sum(part.used for part in after) == sum(part.used for part in before)
    assert [part.expired for part in after] == [part.expired for part in before]
    assert all(abs(a.used - b.used) <= len(burns.shares) for a, b in zip(after, before, strict=True))


async def test_a_new_price_does_not_change_what_was_earned() -> None:
    """The period before is settled at 7 a unit; at 70 the same 10 units would have burned ten times as much."""
    grant = Grant("acme", "pi_1", 1_000, "USD", (MONTH - 31 * DAY) * NS_PER_MINUTE)
    before = Ledger({MONTH - 20 * DAY: 8, MONTH - 10 * DAY: 5})
    burns = await burned(before.use, None, [grant], MONTH)
    known = settled_at([grant], burns.shares, MONTH)
    dearer = Ledger(before.used, micros=70)
    october = (MONTH - 31 * DAY, MONTH)
    assert await recognised(dearer.use, known, "USD", [october], END) == [Recognised(70)]
    halves = [(october[0], MONTH - 15 * DAY), (MONTH - 15 * DAY, MONTH)]
    assert await recognised(dearer.use, known, "USD", halves, END) == [Recognised(35), Recognised(35)]


async def test_where_the_use_is_gone_a_settled_share_is_divided_by_time() -> None:
    grant = Grant("acme", "pi_1", 1_000, "USD", (MONTH - 30 * DAY) * NS_PER_MINUTE)
    burns = await burned(Ledger({MONTH - 20 * DAY: 13}).use, None, [grant], MONTH)
    known = settled_at([grant], burns.shares, MONTH)
    halves = [(MONTH - 30 * DAY, MONTH - 15 * DAY), (MONTH - 15 * DAY, MONTH)]
    assert await recognised(Ledger({}).use, known, "USD", halves, END) == [Recognised(35), Recognised(35)]


async def test_what_expires_later_is_not_earned_yet_and_other_money_is_not_ours() -> None:
    ends = (MONTH + 5 * DAY) * NS_PER_MINUTE
    grant = Grant("acme", "pi_1", 1_000, "USD", MONTH * NS_PER_MINUTE, expires_ns=ends)
    euros = replace(grant, source="pi_2", currency="EUR")
    ledger, whole = Ledger({}), [(MONTH, END)]
    for now, expired in ((MONTH + 5 * DAY - 1, 0), (MONTH + 5 * DAY, 1_000)):
        assert await recognised(ledger.use, history([grant, euros]), "USD", whole, now) == [Recognised(0, expired)]
