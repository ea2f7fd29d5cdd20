from hypothesis import given
from hypothesis import strategies as st

from sidecar.identity.cache import Entry, Refusals, Seats


def _entry(name: str) -> Entry[str]:
    return Entry(name, 10, 0, name, "acme")


@given(st.lists(st.integers(0, 40), max_size=300))
def test_the_seats_never_exceed_their_bound(names: list[int]) -> None:
    seats: Seats[str] = Seats(16)
    for name in names:
        seats.put(bytes([name]), _entry(str(name)))
        assert len(seats) <= 16
    if names:
        assert seats.young[bytes([names[-1]])].seat == str(names[-1])


def test_a_seat_in_use_survives_any_number_of_newcomers() -> None:
    seats: Seats[str] = Seats(16)
    seats.put(b"used", _entry("used"))
    for name in range(200):
        seats.put(b"%d" % name, _entry(str(name)))
        entry = seats.young.get(b"used") or seats.from_old(b"used")
        assert entry is not None
        assert entry.seat == "used"


def test_what_is_forgotten_is_gone_and_yet_known() -> None:
    seats: Seats[str] = Seats(16)
    for name in range(12):
        seats.put(b"%d" % name, _entry(str(name)))
    seats.drop(key_id="1")
    assert seats.young.get(b"1") is None
    assert seats.from_old(b"1") is None
    assert len(seats) == 11
    seats.drop(tenant="acme")
    assert len(seats) == 0
    assert all(seats.knows(b"%d" % name) for name in range(12))
    assert not seats.knows(b"12")
    for round_ in range(10):
        for name in range(16):
            seats.put(b"%d-%d" % (round_, name), _entry("x"))
        seats.clear()
    assert len(seats) == 0
    assert len(seats._before) <= 16


def test_many_that_are_forgotten_at_once_are_known_too() -> None:
    seats: Seats[str] = Seats(4000)
    for round_ in range(3):
        for name in range(1500):
            seats.put(b"%d-%d" % (round_, name), _entry("x"))
        seats.clear()
        assert len(seats) == 0
        assert seats.from_old(b"%d-0" % round_) is None
        assert all(seats.knows(b"%d-%d" % (round_, name)) for name in range(1500))
    assert sum(map(len, seats._past)) + len(seats._before) == 1500


def test_refusals_are_short_and_bounded() -> None:
    refusals = Refusals(3)
    for name in range(5):
        refusals.put(b"%d" % name, "key_unknown", "detail", until_ns=100)
    assert len(refusals) == 3
    assert refusals.get(b"1", 0) is None
    assert refusals.get(b"4", 99) == ("key_unknown", "detail")
    assert refusals.get(b"4", 100) is None
