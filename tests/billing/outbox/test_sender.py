"""What the sender does with each answer, and in which order."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from sidecar.billing.outbox import Rules, Sender
from sidecar.billing.outbox.delivery import AHEAD_S, backoff_ns, needs_reading, next_step, result_of
from sidecar.core.billing import OutboxRow, Outcome, Period
from sidecar.core.clock import NS_PER_S, ManualClock
from tests.billing.books import Books

ROW = OutboxRow(
    id=1,
    tenant="acme",
    customer="cus_1",
    meter="tokens",
    event_name="acme_tokens",
    begin=1_000_000,
    end=1_000_005,
    period=Period(0, 10**9),
    minute=1_000_000,
    version=0,
    value=7,
    identifier="x",
    state="pending",
    created_ns=1_000_010 * 60 * NS_PER_S,
)
NOW_NS = 1_000_011 * 60 * NS_PER_S


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "a.db")


class Recorder:
    """A sink that answers when it is told to."""

    def __init__(self, outcomes: list[Outcome], together: int = 1) -> None:
        """``together``: so many have to be under way before any is answered."""
        self.barrier = asyncio.Barrier(together)
        self.outcomes = outcomes
        self.sent: list[OutboxRow] = []
        self.under_way: set[tuple[str, str]] = set()

    async def send(self, row: OutboxRow) -> Outcome:
        key = (row.event_name, row.customer)
        assert key not in self.under_way, "one at a time per customer and meter: Stripe answers 409 to a second"
        self.under_way.add(key)
        await self.barrier.wait()
        self.under_way.remove(key)
        self.sent.append(row)
        return self.outcomes.pop(0) if self.outcomes else Outcome("accepted", http=200)


def sender(books: Books, sink: Recorder) -> Sender:
    async def at_once(seconds: float) -> None:
        return None

    rules = dataclasses.replace(books.rules, gate_s=None)
    return Sender(books.store, sink, None, books.clock, rules=rules, rate=1000, sleep=at_once, jitter=lambda: 0.5)


async def filled(books: Books, tenants: int, windows: int) -> None:
    for number in range(tenants):
        await books.open_account(f"t{number}")
    for _ in range(windows):
        for number in range(tenants):
            await books.use(5, f"t{number}")
        books.payee.advance(900)
        await books.assigner.assign()


async def test_customers_go_side_by_side_and_a_customers_events_one_by_one(books: Books) -> None:
    await filled(books, 4, 3)
    sink = Recorder([], together=4)
    assert await sender(books, sink).send() == 12
    of_one = [row.minute for row in sink.sent if row.tenant == "t0"]
    assert of_one == sorted(of_one)
    assert await books.store.row_counts() == {"accepted": (12, pytest.approx(0, abs=10**19))}


async def test_two_senders_on_one_store_count_once(books: Books) -> None:
    """A takeover while the other one still runs: rows do not change, the payee refuses the second."""
    await filled(books, 1, 3)
    other = Sender(
        books.store, books.payee, books.payee, books.clock, rules=books.rules, rate=1000, sleep=asyncio.sleep
    )
    done = await asyncio.gather(books.sender.send(), other.send(), return_exceptions=True)
    assert all(isinstance(result, int) or "accepted" in str(result) for result in done)
    await books.settle()
    assert books.billed("t0") == [15]


async def test_a_refusal_of_the_key_stops_everything_and_loses_nothing(books: Books) -> None:
    await filled(books, 3, 1)
    sink = Recorder([Outcome("stop", http=401, message="the key is not valid")])
    stopped = sender(books, sink)
    await stopped.send()
    assert stopped.readings.stopped == "the key is not valid"
    first = len(sink.sent)
    await stopped.send()
    assert len(sink.sent) == first, "quiet for a while"
    books.clock.advance(700)
    await stopped.send()
    assert stopped.readings.stopped == ""
    assert {row.state for row in await books.rows()} == {"accepted"}


async def test_what_follows_an_attempt_that_is_tried_again_waits_for_it(books: Books) -> None:
    await filled(books, 1, 2)
    sink = Recorder([Outcome("unknown", http=500, used_key=True, message="oops")])
    await sender(books, sink).send()
    first, second = await books.rows()
    assert (first.state, first.round, first.note, second.state) == ("sent", 1, "oops", "pending")
    assert first.next_ns > books.clock.wall_ns()


async def test_a_rejected_row_is_parked_and_the_next_one_goes(books: Books) -> None:
    await filled(books, 1, 2)
    sink = Recorder([Outcome("rejected", http=400, code="no_meter", message="no such meter")])
    await sender(books, sink).send()
    assert [(row.state, row.note) for row in await books.rows()] == [("rejected", "no such meter"), ("accepted", "")]


async def test_a_clock_that_differs_from_the_payees_is_told(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    await filled(books, 1, 2)
    far = Outcome("accepted", server_s=books.now_s + 90)
    reporting = sender(books, Recorder([far, dataclasses.replace(far, server_s=books.now_s + 91)]))
    await reporting.send()
    assert reporting.readings.skew_s == 91
    assert caplog.text.count("clock differs") == 1


def test_a_stamp_ahead_of_the_payees_clock_waits() -> None:
    ahead = dataclasses.replace(ROW, minute=1_000_020)
    step = next_step(ahead, NOW_NS, Rules())
    assert (step.kind, step.at_ns) == ("wait", (ahead.timestamp_s - AHEAD_S) * NS_PER_S)
    assert next_step(ahead, step.at_ns, Rules()).kind == "send"


def test_from_twenty_hours_on_the_payee_is_asked_first() -> None:
    rules = Rules()
    edge_ns = ROW.timestamp_s * NS_PER_S + 20 * 3600 * NS_PER_S
    assert not needs_reading(ROW, edge_ns - NS_PER_S, rules)
    assert next_step(ROW, edge_ns, rules).kind == "read"
    assert next_step(dataclasses.replace(ROW, version=1), edge_ns, rules).kind == "send", "a total may be set again"


def test_usage_of_more_than_thirty_four_days_ago_is_not_stamped_anew() -> None:
    """theanswer#624: re-stamping old usage bills it in the wrong period."""
    late_ns = (ROW.timestamp_s + 35 * 86_400) * NS_PER_S
    step = next_step(ROW, late_ns, Rules(gate_s=None))
    assert (step.kind, step.state) == ("settle", "expired")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("accepted", "accepted"), ("rejected", "rejected"), ("retry", "sent"), ("unknown", "sent"), ("stop", "sent")],
)
def test_each_outcome_has_its_state(outcome: str, state: str) -> None:
    result = result_of(ROW, Outcome(outcome, retry_after_ns=5 * NS_PER_S), NOW_NS, lambda: 0.0)
    assert result.state == state
    assert result.next_ns == (NOW_NS + 5 * NS_PER_S if state == "sent" else 0)


def test_the_wait_between_attempts_grows_to_five_minutes() -> None:
    waits = [backoff_ns(attempts, 0.999) for attempts in range(1, 15)]
    assert waits == sorted(waits)
    assert 299 * NS_PER_S < waits[-1] <= 300 * NS_PER_S
    assert backoff_ns(1, 0.0) > 0


async def test_a_sink_that_forgets_needs_sums() -> None:
    with pytest.raises(ValueError, match="sums"):
        Sender(None, None, None, ManualClock(), rules=Rules(), rate=1)  # type: ignore[arg-type]  # refused before use
