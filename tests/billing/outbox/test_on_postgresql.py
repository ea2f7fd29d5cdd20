"""The same worlds as of test_exactly_once and test_edges, with the books in PostgreSQL: some of each here, the rest of
them where there is time for it (``-m chaos``)."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sidecar.core.billing import Period
from tests.billing.outbox.test_edges import billed_by_the_call, lives, uses
from tests.billing.outbox.test_exactly_once import hours_once, outlived, served_once
from tests.storage.postgres.server import Database, Server, shared_server

# Without shrinking: a failure prints its seed, and each attempt costs a database.
some = settings(
    deadline=None,
    max_examples=4,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
many = settings(some, max_examples=50)
seeds, shares, lags = st.integers(0, 2**32), st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0, 1, 6])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with shared_server() as running:
        yield running


@contextmanager
def made(server: Server) -> Iterator[Database]:
    database = server.migrated()
    yield database
    server.drop(database)


@some
@given(seed=seeds, steps=st.integers(5, 15), fault_share=shares, lag_h=lags)
async def test_what_was_served_is_billed_once(
    server: Server, seed: int, steps: int, fault_share: float, lag_h: int
) -> None:
    with made(server) as database:
        await served_once(database, seed, steps, fault_share, lag_h)


@pytest.mark.chaos
@many
@given(seed=seeds, steps=st.integers(5, 30), fault_share=shares, lag_h=lags)
async def test_what_was_served_is_billed_once_many_times(
    server: Server, seed: int, steps: int, fault_share: float, lag_h: int
) -> None:
    with made(server) as database:
        await served_once(database, seed, steps, fault_share, lag_h)


@some
@given(seed=seeds, steps=st.integers(5, 15), fault_share=shares)
async def test_closed_hours_are_billed_once(server: Server, seed: int, steps: int, fault_share: float) -> None:
    with made(server) as database:
        await hours_once(database, seed, steps, fault_share)


@pytest.mark.parametrize("taken", [True, False])
async def test_an_outage_longer_than_the_payees_memory(server: Server, taken: bool) -> None:
    with made(server) as database:
        await outlived(database, 25, taken)


@some
@given(life=lives(), calls=uses)
async def test_what_ended_in_a_subscription_is_billed_to_the_unit(
    server: Server, life: tuple[tuple[Period, ...], str], calls: list[tuple[int, int, int]]
) -> None:
    with made(server) as database:
        await billed_by_the_call(database, life, calls)
