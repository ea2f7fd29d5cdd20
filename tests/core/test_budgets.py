"""The store's side of budgets in memory: crashes, clocks, bounds. What it shares with Redis is in tests/contract."""

from sidecar.core.budgets import AGAIN_US, CHECK_US, FIRST_CHECK_US, LEARN_US, MAX_NODES, NODE_US, BudgetAsk
from sidecar.core.leases import Answer, Ask, Book

DAY_US = 86_400_000_000


def call(book: Book, now: int, node: int = 1, number: int = 1, *, requests: int = 1, **more: int) -> Answer:
    asked = BudgetAsk("q", node, 100, DAY_US, 1, 1, number, seed=0)._replace(**more)
    return book.lease(Ask("t", 0, requests, 0, 0, 1, (), (asked,)), now)


def test_what_a_crashed_node_held_comes_back_when_the_ledger_was_asked() -> None:
    """BerriAI/litellm#27639: a crash between hold and settle; nobody is refused for usage that never was."""
    book = Book()
    assert call(book, 0, 1, requests=100).passed == 100
    refused = call(book, 1, 2)
    assert (refused.passed, refused.budgets[0].ask_us) == (0, AGAIN_US)
    assert call(book, NODE_US - 2, 2, 2).passed == 0
    forgotten = call(book, NODE_US, 2, 3)
    assert (forgotten.passed, forgotten.budgets[0].settled, forgotten.budgets[0].check) == (0, 100, 1)
    assert call(book, NODE_US + 5_000_000, 2, 4, requests=0, lower=97).budgets[0].settled == 3
    assert call(book, NODE_US + 5_000_000, 2, 5, requests=100).passed == 97


def test_a_node_that_calls_keeps_what_it_holds() -> None:
    book = Book()
    call(book, 0, 1, requests=100)
    for second in range(1, 100):
        assert call(book, second * 1_000_000, 1, second + 1, requests=0, held=100).budgets[0].left == 0


def test_a_node_that_was_forgotten_tells_only_what_is_new() -> None:
    book = Book()
    call(book, 0, 1, total=5)
    assert call(book, 1, 1, 2, total=8).budgets[0].settled == 3
    back = call(book, 2 * NODE_US, 1, 3, total=9, told=8)
    assert back.budgets[0].settled == 5  # the 1 that was out counts until the ledger was asked


def test_a_new_counter_grants_nothing_ahead_and_slices_shrink() -> None:
    book = Book()
    assert call(book, 0, ahead=50).budgets[0].granted == 1
    grants = []
    held = 1
    for number in range(2, 12):
        granted = call(book, LEARN_US + number, 1, number, requests=0, held=held, ahead=1000).budgets[0].granted
        held += granted
        grants.append(granted)
    assert grants == [24, 18, 14, 10, 8, 6, 4, 3, 3, 2]


def test_one_node_at_a_time_is_asked_to_compare() -> None:
    book = Book()
    call(book, 0)
    asked = [call(book, FIRST_CHECK_US + node, node, 2).budgets[0].check for node in (1, 2, 3)]
    assert asked == [1, 0, 0]
    asked = [call(book, FIRST_CHECK_US + CHECK_US + 10 + node, node, 3).budgets[0].check for node in (3, 2)]
    assert asked == [1, 0]


def test_a_budget_ends_with_its_period_and_is_swept() -> None:
    book = Book()
    call(book, 0, requests=100)
    fresh = BudgetAsk("r", 1, 100, DAY_US, 1, 1, 1, seed=0)
    book.lease(Ask("t", 0, 1, 0, 0, 1, (), (fresh,)), DAY_US - 1)
    assert set(book._pages["t"].budgets) == {"q", "r"}
    fresh = fresh._replace(key="s")
    book.lease(Ask("t", 0, 1, 0, 0, 1, (), (fresh,)), DAY_US)
    assert set(book._pages["t"].budgets) == {"r", "s"}


def test_nodes_are_bounded_and_what_one_too_many_held_counts_as_spent() -> None:
    book = Book()
    for node in range(1, MAX_NODES + 2):
        answer = call(book, node, node, limit=1000)
    counter = book._pages["t"].budgets["q"]
    assert len(counter.nodes) == MAX_NODES
    assert (answer.passed, counter.settled, counter.out) == (1, 1, MAX_NODES)


def test_only_the_node_whose_turn_it_is_lowers_and_once() -> None:
    book = Book()
    call(book, 0, 1, seed=50)
    call(book, 1, 2)
    assert call(book, FIRST_CHECK_US, 1, 2, requests=0).budgets[0].check == 1
    assert call(book, FIRST_CHECK_US, 2, 2, requests=0, lower=10).budgets[0].settled == 50
    assert call(book, FIRST_CHECK_US, 1, 3, requests=0, lower=10).budgets[0].settled == 40
    assert call(book, FIRST_CHECK_US, 1, 4, requests=0, lower=10).budgets[0].settled == 40
