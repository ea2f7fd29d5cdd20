"""When the money of prepaid credits is earned: by being burned, or by expiring. Integers.

A micro-unit of a grant that is burned earns what was paid for the grant, over its amount; a grant that expires earns
then what was paid and is not burned. One that is revoked earns no more: it was a mistake, or its money went back.
Whatever time is asked for, its parts earn no more and no less than that.

What is settled (core.credits.Book) stands in shares, and stays what it is when prices change. A share of which a part
is asked for is divided by what the use of its time costs, in the order in which it was burned.
"""

from collections.abc import Sequence
from itertools import chain

from sidecar.core.credits import CreditHistory, Grant, Share
from sidecar.core.money import round_div
from sidecar.metering.margin import Recognised
from sidecar.metering.spending import Use, burned

Minutes = tuple[int, int]  # [begin, end), Unix minutes


async def recognised(
    use: Use, history: CreditHistory, currency: str, parts: Sequence[Minutes], now: int
) -> list[Recognised]:
    """Of each of the parts, ascending and without overlap, what credits in ``currency`` earned up to the end of the
    Unix minute ``now``. ``history``: of the time from the first part's beginning to the last one's end."""
    grants = [grant for grant in history.grants if grant.currency == currency]
    settled = [share for share in history.shares if share.currency == currency]
    expired = [grant for grant in history.expired if grant.currency == currency]
    until = min(now, parts[-1][1] - 1)
    burns = await burned(use, history.book, grants, until, cuts={*chain.from_iterable(parts)})
    latest = {grant.source: grant for grant in burns.grants}
    found = []
    for begin, end in parts:
        used = sum(share.earned for share in burns.shares if begin <= share.begin < end)
        for share in settled:
            used += await _earned(use, share, end) - await _earned(use, share, begin)
        over = [latest.get(grant.source, grant) for grant in expired if begin <= grant.end < min(end, now + 1)]
        found.append(Recognised(used, sum(_left(grant) for grant in over)))
    return found


def _left(grant: Grant) -> int:
    """What a grant that ended earns then."""
    ends = grant.expires_ns, grant.revoked_ns
    if ends[0] is None or (ends[1] is not None and ends[1] < ends[0]):
        return 0
    return grant.paid - grant.earned(grant.burned)


async def _earned(use: Use, share: Share, minute: int) -> int:
    """What a settled share had earned when the minute began."""
    if minute <= share.begin:
        return 0
    if minute >= share.end:
        return share.earned
    steps = await use.steps(sorted({share.begin, minute, share.end}))
    upto = sum(step.micros for step in steps if step.end <= minute)
    whole = sum(step.micros for step in steps)
    if whole <= 0:  # the use is gone, by corrections: evenly over time
        upto, whole = minute - share.begin, share.end - share.begin
    reached = round_div(share.due * min(max(0, upto), whole), whole)
    return round_div(share.earned * min(max(0, reached - share.above), share.amount), share.amount)
