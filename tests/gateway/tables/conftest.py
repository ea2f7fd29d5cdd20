"""One sidecar, one upstream and one loop for all rows of a table."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Options, Rig, start_rig


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[CruelUpstream]:
    cruel = CruelUpstream()
    await cruel.start()
    yield cruel
    await cruel.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory, upstream: CruelUpstream) -> AsyncIterator[Rig]:
    made = await start_rig(tmp_path_factory.mktemp("table"), upstream, Options())
    yield made
    await made.stop()
