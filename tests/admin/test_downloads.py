"""Exports over real sockets: headers, backpressure, and a connection that is cut instead of a file that is short."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession
from aiohttp.test_utils import TestServer

from sidecar.admin import make_admin_app
from sidecar.core.errors import StoreError
from sidecar.core.policy import Admin
from sidecar.core.ports import EventPage

TOKEN = "t0ken"
EVENTS = "/api/v1/export?what=events&format=csv"


@pytest.fixture
async def server(book: Any, world: Any) -> AsyncIterator[TestServer]:
    app = make_admin_app(book.operations, world.sources, list, TOKEN, Admin())
    async with TestServer(app) as made:
        yield made


@pytest.fixture
async def client(server: TestServer) -> AsyncIterator[ClientSession]:
    async with ClientSession(server.make_url("/"), headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        yield session


class Endless:
    """Pages of events without an end; ``fails_after`` pages the store fails."""

    def __init__(self, book: Any, fails_after: int | None = None) -> None:
        self.pages = 0
        self._event = book.record(1, method="X" * 1_000)
        self._fails_after = fails_after

    async def __call__(self, *, after: str | None, limit: int, **rest: Any) -> EventPage:
        if self.pages == self._fails_after:
            raise StoreError("the disk is gone")
        self.pages += 1
        return EventPage((self._event,) * limit, "more")


async def test_a_file_comes_with_its_type_and_name(client: ClientSession, book: Any) -> None:
    await book.add(*(book.record(n) for n in range(1_500)))
    async with client.get(EVENTS, params={"tenant": "acme"}) as reply:
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
        assert reply.headers["Transfer-Encoding"] == "chunked"
        name = 'attachment; filename="events-acme-20261122T123456Z-20261123T123456Z.csv"'
        assert reply.headers["Content-Disposition"] == name
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert len(list(csv.reader(io.StringIO(await reply.text(), newline="")))) == 1_501


async def test_grouped_usage_and_margins_over_http(client: ClientSession, book: Any) -> None:
    await book.add(*(book.record(n) for n in range(3)))
    async with client.get("/api/v1/usage", params={"by": "tenant,day", "limit": 1}) as reply:
        assert (await reply.json())["rows"][0]["requests"] == 3
    async with client.get("/api/v1/margin", params={"by": "route", "buffer": "50%"}) as reply:
        assert (await reply.json())["baseline"]["buffer"] == "50%"
    for query in (
        "usage",
        "usage?by=route&after=x",
        "usage?by=rout",
        "export?what=events",
        "margin?buffer=4",
        "margin?x=1",
    ):
        async with client.get(f"/api/v1/{query}") as reply:
            assert (reply.status, (await reply.json())["code"]) == (400, "invalid")


async def test_what_fails_at_once_is_a_problem_document(client: ClientSession, book: Any) -> None:
    book.store.events = Endless(book, fails_after=0)
    async with client.get(EVENTS) as reply:
        assert (reply.status, (await reply.json())["detail"]) == (503, "the disk is gone")
    async with client.get(EVENTS, params={"since": "40d"}) as reply:
        assert reply.status == 400
    async with client.get(EVENTS, params={"tenant": "ghost"}) as reply:
        assert reply.status == 404


async def test_what_fails_in_the_middle_cuts_the_connection(client: ClientSession, book: Any) -> None:
    book.store.events = Endless(book, fails_after=3)
    async with client.get(EVENTS) as reply:
        assert reply.status == 200
        with pytest.raises(ClientPayloadError):
            await reply.read()


async def test_a_client_that_does_not_read_is_waited_for_and_one_that_leaves_ends_the_query(
    client: ClientSession, book: Any
) -> None:
    pages = book.store.events = Endless(book)
    reply = await client.get(EVENTS)
    seen = -1
    while pages.pages != seen:  # until the buffers between the two are full: 1 MiB each page
        seen = pages.pages
        await asyncio.sleep(0.2)
    assert 0 < seen < 30
    reply.close()
    await asyncio.sleep(0.2)
    left = pages.pages
    await asyncio.sleep(0.2)
    assert pages.pages == left <= seen + 2


async def test_so_many_exports_at_a_time(client: ClientSession, book: Any) -> None:
    book.store.events = Endless(book)
    replies = [await client.get(EVENTS) for _ in range(4)]
    async with client.get(EVENTS) as reply:
        assert (reply.status, (await reply.json())["code"]) == (503, "busy")
    for reply in replies:
        reply.close()
    await asyncio.sleep(0.2)
    async with client.get(EVENTS) as reply:
        assert reply.status == 200
        reply.close()


async def test_http_1_0_could_not_tell_a_broken_file_from_a_whole_one(server: TestServer, book: Any) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"GET {EVENTS} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    assert b" 400 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
