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
