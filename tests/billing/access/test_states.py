"""Access out of what Stripe says: the whole table, and what must hold in every history."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.billing.access import Seen, follow
from sidecar.billing.access.states import KNOWN, WARN_S
from sidecar.core.accounts import Account, standing
from sidecar.core.billing import Period
from sidecar.core.billing_settings import AccessPolicy
from sidecar.core.values import AccessState, Tenant

DAY = 86_400
NS = 10**9
START = int(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp())
POLICY = AccessPolicy()
NEW = Account("acme", "cus_1")
WORSE = list(AccessState)


def at(account: Account, status: str, day: float, policy: AccessPolicy = POLICY, **more: object) -> Account:
    """The account after a reading on this day."""
    seen = Seen("cus_1", "sub_1", status, "pro", **more)  # type: ignore[arg-type]  # the fields' own values
    moment = round((START + day * DAY) * NS)
    after, _ = follow(account, seen, policy, moment)
    return replace(after, read_ns=moment)


def test_unpaid_goes_step_by_step_and_a_payment_opens() -> None:
    account = at(NEW, "active", 0)
    assert (account.access, account.plan, account.until_ns) == (AccessState.ACTIVE, "pro", None)
    account = at(account, "past_due", 10)
    assert account.access is AccessState.GRACE
    assert account.until_ns == (START + 17 * DAY) * NS
    account = at(account, "past_due", 16.99)
    assert account.access is AccessState.GRACE
    account = at(account, "past_due", 17)
    assert account.access is AccessState.READ_ONLY
    assert account.until_ns == (START + 47 * DAY) * NS
    account = at(account, "unpaid", 24)
    assert account.access is AccessState.READ_ONLY, "that Stripe stopped asking changes nothing"
    account = at(account, "unpaid", 47)
    assert (account.access, account.until_ns) == (AccessState.SUSPENDED, None)
    account = at(account, "active", 60)
    assert (account.access, account.plan) == (AccessState.ACTIVE, "pro")
    assert at(account, "past_due", 61).access is AccessState.GRACE, "a new debt has a grace of its own"


def test_a_debt_that_is_found_late_still_has_its_grace() -> None:
    """The sidecar was away for two months: nobody is suspended in the first second."""
    account = at(at(NEW, "active", 0), "unpaid", 60)
    assert account.access is AccessState.GRACE


def test_the_fallback_plan_takes_the_place_of_read_only() -> None:
    policy = AccessPolicy(fallback_plan="free")
    account = at(at(NEW, "active", 0, policy), "past_due", 1, policy)
    assert (account.access, account.plan) == (AccessState.GRACE, "pro")
    account = at(account, "past_due", 8, policy)
    assert (account.access, account.plan, account.until_ns) == (AccessState.ACTIVE, "free", None)
    assert at(account, "canceled", 90, policy).plan == "free"
    assert at(account, "active", 9, policy).plan == "pro"


def test_an_ended_subscription_is_read_only_then_suspended_then_closed() -> None:
    policy = AccessPolicy(closed_ns=90 * DAY * NS)
    end = START + 3 * DAY
    account = at(at(NEW, "active", 0, policy), "canceled", 3, policy, ended_s=end)
    assert account.access is AccessState.READ_ONLY
    account = at(account, "canceled", 33, policy, ended_s=end)
    assert (account.access, account.until_ns) == (AccessState.SUSPENDED, (end + 90 * DAY) * NS)
    account = at(account, "canceled", 93, policy, ended_s=end)
    assert account.access is AccessState.CLOSED
    assert at(account, "active", 94, policy).access is AccessState.ACTIVE


def test_cancelling_a_suspended_one_does_not_open_it() -> None:
    account = at(at(at(NEW, "active", 0), "past_due", 1), "past_due", 50)
    assert account.access is AccessState.SUSPENDED
    assert at(account, "canceled", 51, ended_s=START + 51 * DAY).access is AccessState.SUSPENDED


def test_nothing_is_bought_by_a_first_payment_that_failed() -> None:
    account = at(NEW, "incomplete", 0)
    assert (account.access, account.plan) == (AccessState.ACTIVE, None)
    assert at(account, "incomplete_expired", 1).plan is None
    assert at(account, "active", 1).plan == "pro"


def test_a_trial_is_told_of_before_it_ends() -> None:
    ends = START + 14 * DAY
    seen = Seen("cus_1", "sub_1", "trialing", "pro", trial_until_s=ends)
    account, told = follow(NEW, seen, POLICY, START * NS, ("email",))
    assert (account.access, account.until_ns, told) == (AccessState.ACTIVE, (ends - WARN_S) * NS, ())
    account, told = follow(account, seen, POLICY, (ends - WARN_S) * NS, ("email", "webhook"))
    assert [(notice.kind, notice.channel) for notice in told] == [
        ("trial.ending", "email"),
        ("trial.ending", "webhook"),
    ]
    assert account.until_ns is None


def test_an_unknown_status_keeps_the_access_and_is_told() -> None:
    account = at(at(NEW, "active", 0), "past_due", 1)
    seen = Seen("cus_1", "sub_1", "suspicious", "pro")
    kept, told = follow(account, seen, POLICY, (START + 9 * DAY) * NS, ("email",))
    assert (kept.access, [notice.kind for notice in told]) == (AccessState.GRACE, ["status.unknown"])
    assert kept.until_ns is not None
    assert kept.until_ns > (START + 9 * DAY) * NS
    assert at(kept, "past_due", 10).access is AccessState.READ_ONLY, "the grace does not begin anew"


STATUSES = st.sampled_from([*sorted(KNOWN), "unheard_of"])
POLICIES = st.builds(
    AccessPolicy,
    grace_ns=st.integers(0, 30 * DAY * NS),
    read_only_ns=st.integers(0, 60 * DAY * NS),
    fallback_plan=st.sampled_from([None, "free"]),
    closed_ns=st.one_of(st.none(), st.integers(DAY * NS, 99 * DAY * NS)),
)
STEPS = st.lists(st.tuples(STATUSES, st.integers(0, 40 * DAY)), min_size=1, max_size=12)


@given(POLICIES, STEPS)
def test_every_history(policy: AccessPolicy, steps: list[tuple[str, int]]) -> None:
    """Paid is always active; a grace is never left out; reading again changes nothing; a
    step that is due lies ahead."""
    account, now = NEW, START * NS
    for status, wait_s in steps:
        now += wait_s * NS
        seen = Seen("cus_1", "sub_1", status, "pro", (Period(START, START + 30 * DAY),))
        was = account
        account, told = follow(account, seen, policy, now, ("email",))
        account = replace(account, read_ns=max(now, account.read_ns + 1))
        if status in ("", "trialing", "active"):
            assert account.access is AccessState.ACTIVE
            assert account.plan == "pro"
        begins = was.access is AccessState.ACTIVE and was.plan != "free"
        if status in ("past_due", "unpaid") and begins and policy.grace_ns:
            assert account.access is AccessState.GRACE, "no step is left out"
        assert account.until_ns is None or account.until_ns > now
        assert (account.access is not was.access) <= (len(told) >= 1), "every change of access is told"
        again, told = follow(account, seen, policy, now, ("email",))
        assert replace(again, read_ns=0) == replace(account, read_ns=0)
        assert [notice.kind for notice in told] in ([], ["trial.ending"])


@given(st.sampled_from(WORSE), st.sampled_from(WORSE))
def test_a_tenant_has_the_worse_of_both(own: AccessState, access: AccessState) -> None:
    tenant = standing(Tenant("acme", "free", own), replace(NEW, access=access, plan="pro"))
    assert tenant.plan == "pro"
    assert WORSE.index(tenant.state) == max(WORSE.index(own), WORSE.index(access))
    assert standing(Tenant("acme", "free", own), None) == Tenant("acme", "free", own)


@pytest.mark.parametrize("status", sorted(KNOWN))
def test_periods_are_kept_and_cut_short_ones_replaced(status: str) -> None:
    first = Seen("cus_1", "sub_1", "active", "pro", (Period(START, START + 31 * DAY),))
    account, _ = follow(NEW, first, POLICY, START * NS)
    cut = Seen("cus_1", "sub_1", status, "pro", (Period(START, START + 5 * DAY),))
    account, _ = follow(account, cut, POLICY, (START + 5 * DAY) * NS)
    assert len(account.periods) == 1
