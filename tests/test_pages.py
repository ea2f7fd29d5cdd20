"""The pages of payment in a worker: passed on to the parent over its socket, as they came, and back."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sidecar.app.pages import Pages


class Parent:
    """What serves at the other end. ``seen``: each request as it came."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    async def answer(self, request: web.Request) -> web.Response:
        fields = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.method, request.raw_path, fields, await request.read()))
        if request.path.endswith("/elsewhere"):
            raise web.HTTPSeeOther("/_sidecar/other")
        return web.Response(
            status=202, body=b"taken", headers={"Content-Type": "text/x-own", "Retry-After": "7", "Set-Cookie": "a=b"}
        )


@pytest.fixture
async def parent(tmp_path: Path) -> AsyncIterator[Parent]:
    made, app = Parent(), web.Application()
    app.router.add_route("*", "/{rest:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "pages")).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def base(tmp_path: Path) -> AsyncIterator[str]:
    """A worker's own paths."""
    pages, app = Pages(str(tmp_path / "pages")), web.Application()
    app.add_routes(pages.routes())
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    yield f"http://{host}:{port}"
    await runner.cleanup()
    await pages.close()


async def test_a_request_passes_as_it_came(parent: Parent, base: str) -> None:
    """A webhook's signature is over its raw body; what belongs to the connection stays here."""
    body = bytes(range(256)) * 1000
    fields = {"Stripe-Signature": "t=1,v1=a", "Cookie": "c=d", "Expect": "100-continue", "Connection": "close"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{base}/_sidecar/stripe/a%2Fb?c=%20d", data=body, headers=fields) as reply,
    ):
        assert (reply.status, await reply.read()) == (202, b"taken")
        assert (reply.headers["Content-Type"], reply.headers["Retry-After"]) == ("text/x-own", "7")
        assert reply.headers["Set-Cookie"] == "a=b", "by it a browser is shown its first key again"
    ((method, path, seen, got),) = parent.seen
    assert (method, path, got) == ("POST", "/_sidecar/stripe/a%2Fb?c=%20d", body)
    assert (seen["stripe-signature"], seen["cookie"], seen["host"]) == ("t=1,v1=a", "c=d", "parent")
    assert "expect" not in seen


async def test_a_redirect_is_the_clients_to_follow(parent: Parent, base: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{base}/_sidecar/elsewhere", allow_redirects=False) as reply,
    ):
        assert reply.status == 303
    assert len(parent.seen) == 1


@pytest.mark.parametrize("path", ["/_sidecar/livez", "/_sidecar/jwks.json", "/_sidecar/", "/other"])
async def test_what_a_worker_answers_itself_is_not_passed_on(parent: Parent, base: str, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{base}{path}") as reply:
        assert reply.status == 404  # of this application, which has nothing else
    assert parent.seen == []


async def test_a_parent_that_is_not_there_is_asked_again_later(base: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{base}/_sidecar/pay") as reply:
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
