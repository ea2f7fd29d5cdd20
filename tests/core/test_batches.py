"""A batch is the records it was made of, however its blocks were cut."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.batches import BLOCK_BYTES, Batch
from sidecar.core.records import BETWEEN

records = st.lists(st.binary(max_size=40).map(lambda some: some.replace(b"\n", b"")), max_size=30)


@given(st.lists(records))
def test_a_batch_is_its_records_in_order(parts: list[list[bytes]]) -> None:
    batch = Batch()
    for part in parts:
        batch.extend(Batch.of(part).blocks)
    whole = [record for part in parts for record in part]
    assert list(batch) == whole
    assert len(batch) == len(whole)
    assert bool(batch) == bool(whole)
    assert batch[: len(whole) // 2] + batch[len(whole) // 2 :] == whole
    assert all(batch[n] == record for n, record in enumerate(whole))
    assert BETWEEN.join(text for text, _ in batch.blocks) == BETWEEN.join(whole)
    assert list(Batch(batch.gathered())) == whole


def test_a_block_ends_with_the_record_that_fills_it() -> None:
    record = b"x" * 1000
    batch = Batch.of([record] * 1000)
    fitting = -(-BLOCK_BYTES // 1000)
    assert [count for _, count in batch.blocks] == [fitting] * (1000 // fitting) + [1000 % fitting]
    assert Batch.of(batch) is batch
    assert list(Batch((record, 1) for _ in range(1000)).gathered()) == batch.blocks
