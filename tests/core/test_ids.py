"""Event ids: UUIDv7 texts that sort by creation."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.ids import EventIds

_WALL = st.integers(0, (1 << 48) * 1_000_000 - 1)


@given(st.lists(_WALL, min_size=1, max_size=50))
def test_sorted_unique_and_version_7(walls: list[int]) -> None:
    ids = EventIds()
    walls = sorted(walls)
    texts = [ids.next(wall) for wall in walls]
    assert texts == sorted(set(texts))
    for wall, text in zip(walls, texts, strict=True):
        parsed = uuid.UUID(text.decode())
        assert (str(parsed).encode(), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
        assert parsed.int >> 80 == wall // 1_000_000


def test_two_processes_differ() -> None:
    assert EventIds().next(0) != EventIds().next(0)


def test_ids_of_one_millisecond_stay_sorted_past_the_end_of_a_table() -> None:
    ids = EventIds()
    texts = [ids.next(1_796_000_000_000_000_000 + (i % 1000)) for i in range(10_000)]
    assert texts == sorted(set(texts))
    assert len({text[:13] for text in texts}) == 1


def test_a_wall_clock_that_goes_back_is_followed() -> None:
    ids = EventIds()
    for ms in (5, 6, 5, 4, 6):
        assert uuid.UUID(ids.next(ms * 1_000_000 + 999_999).decode()).int >> 80 == ms
