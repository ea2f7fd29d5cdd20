"""Two workers whose parent writes a real PostgreSQL and who lease from a real Redis: one limit, one quota, one book."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, Sidecar, write_config
from tests.e2e.test_scrape import samples
from tests.e2e.test_workers import POLICIES, Counting, crew, until
from tests.storage.postgres.server import shared_server
from tests.storage.redis.server import running

# A machine that stalls is a Redis that does not answer; by default a unit passes then.
EXACT = POLICIES.replace("scope: [tenant]}]\n  counted", "scope: [tenant], on_store_error: deny}]\n  counted")


@pytest.fixture
def pair(make: Make, tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sidecar]:
    with running() as redis, shared_server() as server:
        database = server.migrated()
        monkeypatch.setenv("DATABASE_URL", database.url)
        more = f"workers: 2\nstorage: ${{DATABASE_URL}}\nlimits: {redis.url}\n"
        sidecar = make(*write_config(tmp_path, api.url, EXACT, more)).start()
        yield sidecar
        sidecar.close()
        server.drop(database)


@pytest.mark.parametrize("tenant", ["tiny", "few"], ids=["limit", "quota"])
def test_a_limit_and_a_quota_are_one(pair: Sidecar, tenant: str) -> None:
    key = pair.another_key(tenant)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: pair.call("GET", "/echo", key).status, range(60)))
    assert (statuses.count(200), set(statuses) - {503}) == (10, {200, 429}), sorted(statuses)
    assert pair.usage(tenant)["requests"] == 10


def test_a_killed_worker_loses_nothing_that_was_answered(pair: Sidecar) -> None:
    key = pair.another_key("acme")
    load = Counting(pair.base, key, 4)
    load.reaches(100)
    victim = crew(pair)[0]
    victim.kill()
    victim.wait(PATIENCE_S)
    until(lambda: len(crew(pair)) == 2 and samples(pair)["sidecar_workers"] == 2)
    load.reaches(load.answered + 100)
    load.end()
    assert load.statuses == {200}
    assert load.broken <= 4
    workers = crew(pair)
    assert pair.stop() == 0
    assert psutil.wait_procs(workers, PATIENCE_S)[1] == []
    pair.start()
    assert load.answered <= pair.usage("acme")["requests"] <= load.answered + load.broken
