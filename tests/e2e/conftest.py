"""One upstream and one sidecar per module and worker; tests that stop or kill a sidecar make their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.process import Sidecar
from tests.e2e.stripe import Stripe
from tests.storage.postgres.server import shared_server

Make = Callable[..., Sidecar]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    server = Api()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def front(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar in front of ``api`` with the built-in defaults and no file."""
    sidecar = Sidecar(tmp_path_factory.mktemp("front"), "--upstream", api.url).start()
    yield sidecar
    sidecar.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes sidecars that are not started yet, ``make(*words, folder=...)``, and ends what is left of them."""
    made: list[Sidecar] = []

    def sidecar(*words: str, folder: Path = tmp_path) -> Sidecar:
        made.append(Sidecar(folder, *words))
        return made[-1]

    yield sidecar
    for one in made:
        one.close()


@pytest.fixture
def stripe() -> Iterator[Stripe]:
    stripe = Stripe(frozenset({"rak_billing_meter_read", "rak_subscription_read", "rak_event_read"}))
    yield stripe
    stripe.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The line of the configuration, none for the default."""
    if request.param == "sqlite":
        yield ""
        return
    with shared_server() as server:
        database = server.migrated()
        monkeypatch.setenv("DATABASE_URL", database.url)
        yield "storage: ${DATABASE_URL}\n"
        server.drop(database)
