"""Two nodes of one installation: one Redis, one PostgreSQL, and each knows the other's keys."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.process import Sidecar, write_config
from tests.storage.postgres.server import shared_server
from tests.storage.redis.server import Server


@contextmanager
def two_nodes(
    folder: Path, api: Api, redis: Server, policies: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Sidecar]]:
    """Both serve."""
    with ExitStack() as stack:
        monkeypatch.setenv("DATABASE_URL", stack.enter_context(shared_server()).migrated().url)
        monkeypatch.setenv("PEPPER", "s" * 43)
        more = (
            f"storage: ${{DATABASE_URL}}\nlimits: {redis.url}\n"
            "identity: {api_key: {peppers: [{id: one, secret: '${PEPPER}'}]}}\n"
        )
        made = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            made.append(Sidecar(folder / name, *write_config(folder / name, api.url, policies, more)))
            stack.callback(made[-1].close)
            made[-1].start()
        yield made
