"""The guide's example runs: an upstream verifies what the sidecar signs, over a real connection."""

import asyncio
import re
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.core.clock import SystemClock
from sidecar.core.policy import UpstreamJwt
from sidecar.core.values import Principal
from sidecar.identity import UpstreamSigner, parse_key, signing_key

GUIDE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text()


async def test_the_upstreams_example_verifies_and_refuses(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    signer = UpstreamSigner(UpstreamJwt(audience="my-api"), signing_key(tmp_path), SystemClock())
    stranger = UpstreamSigner(UpstreamJwt(audience="my-api"), signing_key(tmp_path / "other"), SystemClock())
    app = web.Application()

    async def key_set(request: web.Request) -> web.Response:
        return web.json_response(signer.jwks())

    app.router.add_get("/_sidecar/jwks.json", key_set)
    async with TestServer(app) as server:
        (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
        names: dict[str, Any] = {}
        exec(example.replace("http://127.0.0.1:8080", str(server.make_url("")).rstrip("/")), names)
        principal = Principal("acme", "AbCdEf", "pro")
        claims = await asyncio.to_thread(names["caller"], _token(signer, principal))
        assert (claims["tenant"], claims["sub"], claims["plan"]) == ("acme", "AbCdEf", "pro")
        with pytest.raises(jwt.PyJWTError):
            await asyncio.to_thread(names["caller"], _token(stranger, principal))


def test_the_guides_key_is_a_key() -> None:
    (text,) = re.findall(r"\bsc_live_\w+", GUIDE)
    assert parse_key("sc", text.encode()).sandbox is False


def _token(signer: UpstreamSigner, principal: Principal) -> str:
    return signer.header_line(principal).decode().split()[1]
