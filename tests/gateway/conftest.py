"""A rig per test; ``options`` is overridden with ``@pytest.mark.parametrize("options", [Options(...)])``."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Options, Rig, start_rig


@pytest.fixture
def options() -> Options:
    return Options()


@pytest.fixture
async def upstream() -> AsyncIterator[CruelUpstream]:
    cruel = CruelUpstream()
    await cruel.start()
    yield cruel
    await cruel.stop()


@pytest.fixture
async def rig(tmp_path: Path, upstream: CruelUpstream, options: Options) -> AsyncIterator[Rig]:
    made = await start_rig(tmp_path, upstream, options)
    yield made
    await made.stop()
