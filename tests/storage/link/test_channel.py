"""The link: calls both ways over a real Unix socket, bounded, with a peer that may break every rule."""

import asyncio
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sidecar.app.wires import WIRE
from sidecar.core.credits import Book, Share
from sidecar.core.errors import NotFound, StoreDown, StoreError, StoreFull
from sidecar.core.ports import Position
from sidecar.storage.link import Channel, LinkServer, LinkStore, connect
from sidecar.storage.link.channel import MAX_CALLS, MAX_FRAME

PATIENCE_S = 20


class Ends:
    """A server, and channels that are connected to it."""

    def __init__(self, folder: Path, handlers: dict[str, Callable[..., Any]]) -> None:
        self.path = folder / "link"
        self.handlers = handlers
        self.accepted: list[Channel] = []
        self.pids: list[int] = []
        self.server = LinkServer(self.path, self._accept)

    def _accept(self, pid: int) -> Channel:
        self.pids.append(pid)
        self.accepted.append(Channel(WIRE, self.handlers))
        return self.accepted[-1]

    async def join(self, handlers: dict[str, Callable[..., Any]] | None = None) -> Channel:
        channel = Channel(WIRE, handlers or {})
        await connect(self.path, channel)
        return channel


async def fail(what: str) -> None:
    raise {"full": StoreFull("no room"), "found": NotFound("no such thing"), "bug": KeyError("secret")}[what]


async def hang() -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    made = Ends(tmp_path, {"double": lambda n: 2 * n, "fail": fail, "hang": hang})
    await made.server.start()
    yield made
    await made.server.close()


async def test_calls_go_both_ways_and_are_answered_in_any_order(ends: Ends) -> None:
    released = asyncio.Event()

    async def late(n: int) -> int:
        await released.wait()
        return n

    ends.handlers["late"] = late
    channel = await ends.join({"whoami": lambda: "a worker"})
    waiting = [asyncio.create_task(channel.call("late", n)) for n in range(5)]
    assert await channel.call("double", 21) == 42
    released.set()
    assert await asyncio.gather(*waiting) == [0, 1, 2, 3, 4]
    assert await ends.accepted[0].call("whoami") == "a worker"
    assert ends.pids == [os.getpid()]


async def test_what_does_not_fit_the_link_is_an_error_for_whoever_asked_and_leaves_nothing_behind(ends: Ends) -> None:
    async def strange() -> object:
        return object()

    ends.handlers["strange"] = strange
    channel = await ends.join()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StoreError):
            await channel.call("strange", timeout_s=None)
    for _ in range(MAX_CALLS):
        with pytest.raises(TypeError):
            await channel.call("double", object())
    assert await channel.call("double", 21) == 42


async def test_errors_arrive_as_what_they_were_and_bugs_without_their_text(ends: Ends) -> None:
    channel = await ends.join()
    with pytest.raises(StoreFull, match="no room"):
        await channel.call("fail", "full")
    with pytest.raises(NotFound, match="no such thing"):
        await channel.call("fail", "found")
    with pytest.raises(StoreError) as bug:
        await channel.call("fail", "bug")
    assert type(bug.value) is StoreError
    with pytest.raises(StoreError, match="there is no call 'nothing'"):
        await channel.call("nothing")


async def test_an_answer_that_does_not_come_has_a_bound(ends: Ends) -> None:
    channel = await ends.join()
    with pytest.raises(StoreDown, match=r"within 0\.01 s"):
        await channel.call("hang", timeout_s=0.01)
    assert await channel.call("double", 1) == 2


async def test_calls_in_flight_are_bounded_at_either_end(ends: Ends) -> None:
    channel = await ends.join()
    waiting = [asyncio.create_task(channel.call("hang", timeout_s=None)) for _ in range(MAX_CALLS)]
    await asyncio.sleep(0)
    with pytest.raises(StoreDown, match=f"{MAX_CALLS} calls wait"):
        await channel.call("double", 1)
    channel.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreDown}


async def test_the_end_of_one_side_ends_the_calls_of_the_other(ends: Ends) -> None:
    gone = asyncio.Event()
    channel = await ends.join()
    channel.lost = gone.set
    call = asyncio.create_task(channel.call("hang", timeout_s=None))
    assert await channel.call("double", 1) == 2
    ends.accepted[0].close()
    async with asyncio.timeout(PATIENCE_S):
        await gone.wait()
        with pytest.raises(StoreDown, match="is gone"):
            await call
    with pytest.raises(StoreDown):
        await channel.call("double", 1)


@pytest.mark.parametrize(
    "junk",
    [
        struct.pack("<I", MAX_FRAME + 1),
        struct.pack("<I", 9) + b"not a one",
        b"GET / HTTP/1.1\r\nHost: link\r\n\r\n" + b"x" * 100,
        struct.pack("<I", 0),
    ],
)
async def test_a_peer_that_breaks_the_rules_is_cut_off_and_the_others_are_not(ends: Ends, junk: bytes) -> None:
    well = await ends.join()
    reader, writer = await asyncio.open_unix_connection(str(ends.path))
    writer.write(junk)
    if junk.startswith(b"GET"):
        writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    assert await well.call("double", 2) == 4


async def test_the_socket_is_its_owners_alone_and_one_left_by_a_dead_process_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "link"))
    left.close()
    ends = Ends(tmp_path, {"double": lambda n: 2 * n})
    await ends.server.start()
    assert stat.S_IMODE(ends.path.stat().st_mode) == 0o600
    assert await (await ends.join()).call("double", 2) == 4
    await ends.server.close()
    assert not ends.path.exists()
    with pytest.raises(StoreDown, match="nobody listens"):
        await ends.join()


async def test_a_folder_with_a_long_name_will_do(tmp_path: Path) -> None:
    """sun_path holds 108 bytes (unix(7))."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    ends = Ends(folder, {"double": lambda n: 2 * n})
    await ends.server.start()
    assert await (await ends.join()).call("double", 2) == 4
    await ends.server.close()


async def test_a_server_that_closes_late_leaves_the_socket_of_its_successor(tmp_path: Path) -> None:
    first, second = Ends(tmp_path, {}), Ends(tmp_path, {"double": lambda n: 2 * n})
    await first.server.start()
    await second.server.start()
    await first.server.close()
    assert await (await second.join()).call("double", 2) == 4
    await second.server.close()


async def test_a_large_batch_goes_in_pieces_and_its_position_with_the_last(ends: Ends) -> None:
    taken: list[tuple[int, Position]] = []

    async def append(records: list[bytes], position: Position) -> int:
        taken.append((len(records), position))
        return len(records)

    ends.handlers |= {"append": append, "position": lambda: Position(1, 16)}
    store = LinkStore(await ends.join())
    assert await store.position() == Position(1, 16)
    assert await store.append([b"x" * 60_000] * 200, Position(2, 50)) == 200
    assert len(taken) == 3
    assert [position for _, position in taken] == [Position(1, 16), Position(1, 16), Position(2, 50)]
    assert await store.append([], Position(3, 16)) == 0
    assert taken[-1] == (0, Position(3, 16))


async def test_what_a_worker_settles_of_credits_crosses_whole(tmp_path: Path) -> None:
    settled: list[Any] = []

    def settle(book: Book, burned: dict[str, int], until: int | None, shares: list[Share]) -> bool:
        settled.append((book, burned, until, shares))
        return True

    server = LinkServer(tmp_path / "link", lambda pid: Channel(WIRE, {"settle_credits": settle}))
    await server.start()
    channel = Channel(WIRE, {})
    await connect(tmp_path / "link", channel)
    told = Book("acme", 60, 3), {"pi_1": 7}, [Share("pi_1", 0, 60, 9, 2, 7, 5, "USD")]
    assert await LinkStore(channel).settle_credits(told[0], told[1], if_until=None, shares=told[2])
    assert settled == [(told[0], told[1], None, told[2])]
    channel.close()
    await server.close()
