"""What is copied as it stands is what a JSON parser would have read; what is not, is decoded and judged."""

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.ports import Position
from sidecar.core.records import BETWEEN, encode_record
from sidecar.storage.postgres import PostgresStore
from sidecar.storage.postgres.batch import Csv, as_csv, as_rows
from sidecar.storage.postgres.texts import shown, stored
from tests.records import CALL, MINUTE
from tests.storage.postgres.records import record, records
from tests.storage.postgres.server import Database

# Letters that mean something to CSV, to JSON, to the trick between them, or to PostgreSQL.
nasty = st.text(alphabet="ab,\"{}[]\\'\n\r\x00\x01\x02\x7f:; é\U0001f600", max_size=6)


@given(st.text(alphabet=st.characters(codec="utf-8")), st.text(alphabet="a\x00\x0101"), st.text(alphabet="a\x00\x0101"))
def test_every_text_is_stored_as_one_of_its_own_and_comes_back(text: str, one: str, other: str) -> None:
    assert shown(stored(text)) == text
    assert "\0" not in stored(text)
    assert (stored(one) == stored(other)) is (one == other)


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        stored("\ud800")


async def test_plain_batches_are_copied_as_they_stand() -> None:
    whole = records(3000)
    batch = Csv(whole)
    parts = [part async for part in batch]
    assert batch.complete
    assert len(parts) > 1
    assert b"".join(parts) == as_csv(BETWEEN.join(whole), len(whole))


async def test_parts_end_before_the_first_that_is_not_plain() -> None:
    batch = Csv([*records(2000), b"\\", *records(2000)])
    assert 0 < sum([part.count(b"\n") async for part in batch]) <= 2000
    assert not batch.complete


@pytest.mark.parametrize("text", [b"\\", b"\x01", b"\r", b"a\nb", b"", b'["d",{"a":{"b":1}},{"c":1}]', b'[",{"]'])
def test_what_its_bytes_leave_open_is_decoded(text: bytes) -> None:
    assert as_csv(BETWEEN.join([*records(2), text, *records(2)]), 5) is None


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[tuple[PostgresStore, asyncpg.Connection]]:
    store = await PostgresStore.open(database.url, journal="node")
    connection = await asyncpg.connect(database.superuser_url)
    yield store, connection
    await connection.close()
    await store.close()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.tuples(*[nasty] * 5), st.dictionaries(nasty, st.integers(0, 9), max_size=3)), max_size=6))
async def test_any_texts_come_back_as_they_were(
    ledger: tuple[PostgresStore, asyncpg.Connection], parts: list[tuple[tuple[str, ...], dict[str, int]]]
) -> None:
    """Names with quotes, commas, braces, control characters: no column moves, no name becomes another's."""
    store, connection = ledger
    await connection.execute("TRUNCATE sidecar.entries")
    made = [
        record(tenant=tenant, key_id=key, plan=plan, route=route, method=method, meters=meters)
        for (tenant, key, plan, route, method), meters in parts
    ]
    assert await store.append([encode_record(one) for one in made], Position(1, 16)) == len(made)
    page = await store.events(tenant=None, since_us=0, until_us=1000 * MINUTE, after=None, limit=1000)
    assert sorted(page.events, key=lambda one: one.event_id) == made


_raw = json.loads(encode_record(CALL))
values = st.one_of(
    nasty, st.integers(-5, 2**65), st.none(), st.booleans(), st.floats(), st.lists(st.integers()), st.just({})
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 18), values), min_size=1, max_size=2))
async def test_a_record_with_wrong_values_is_judged_alike_on_both_ways(
    ledger: tuple[PostgresStore, asyncpg.Connection], changes: list[tuple[int, object]]
) -> None:
    """Between good ones, which are taken in any case; it counts as the decoding says, never as something else."""
    store, connection = ledger
    await connection.execute("TRUNCATE sidecar.entries")
    row = [*_raw[:1], record().event_id, *_raw[2:]]
    for position, value in changes:
        row[position] = value
    odd = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    good, _ = as_rows([odd])
    assert await store.append([*records(2), odd, *records(2)], Position(1, 16)) == 4 + len(good)
    found = await connection.fetch("SELECT tenant, units FROM sidecar.entries")
    expected = [("acme", 5)] * 4 + [(fields[2], fields[10]) for fields, _ in good]
    assert sorted(map(tuple, found)) == sorted(expected)
