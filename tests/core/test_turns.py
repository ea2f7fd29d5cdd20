"""Nothing is sent before what has to be kept is kept, and nothing overtakes."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from sidecar.core.turns import Turn


class Socket:
    """Keeps what is written, beside what else happens."""

    def __init__(self, name: str, events: list[str]) -> None:
        self.name = name
        self.events = events
        self.closing = False

    def write(self, data: bytes) -> None:
        self.events.append(f"{self.name} {data.decode()}")

    def abort(self) -> None:
        self.closing = True
        self.events.append(f"{self.name} aborted")

    def is_closing(self) -> bool:
        return self.closing


def two(events: list[str]) -> tuple[Any, Any]:
    return cast(Any, Socket("a", events)), cast(Any, Socket("b", events))


def after_the_first(socket: Any, then: Callable[[], object]) -> None:
    """Calls ``then`` from within the write of b"1"."""
    write = socket.write

    def answering(data: bytes) -> None:
        write(data)
        if data == b"1":
            then()

    socket.write = answering


def test_without_anything_to_keep_it_writes_at_once() -> None:
    events: list[str] = []
    a, b = two(events)
    turn = Turn(lambda: events.append("kept"))
    turn.write(a, b"1")
    turn.write(b, b"2")
    assert turn.settle()
    assert events == ["a 1", "b 2"]


async def test_what_is_written_leaves_in_order_at_the_end_of_the_turn_behind_what_is_kept() -> None:
    events: list[str] = []
    a, b = two(events)
    turn = Turn(lambda: events.append("kept"))
    turn.write(a, b"0")
    turn.await_keep()
    turn.write(a, b"1")
    turn.await_keep()
    turn.write(b, b"2")
    turn.write(a, b"3")
    assert events == ["a 0"]
    await asyncio.sleep(0)
    assert events == ["a 0", "kept", "a 1", "b 2", "a 3"]
    turn.write(b, b"4")
    assert events[-1] == "b 4"
    await asyncio.sleep(0)
    assert events.count("kept") == 1


async def test_settled_early_it_keeps_once_and_the_next_turn_keeps_again() -> None:
    events: list[str] = []
    a, _ = two(events)
    turn = Turn(lambda: events.append("kept"))
    turn.await_keep()
    turn.write(a, b"1")
    assert turn.settle()
    turn.await_keep()
    turn.write(a, b"2")
    assert events == ["kept", "a 1"]
    for _ in range(3):
        await asyncio.sleep(0)
    assert events == ["kept", "a 1", "kept", "a 2"]


async def test_a_connection_that_closed_meanwhile_gets_nothing() -> None:
    events: list[str] = []
    a, b = two(events)
    turn = Turn(lambda: None)
    turn.await_keep()
    turn.write(a, b"1")
    turn.write(b, b"2")
    a.closing = True
    assert turn.settle()
    assert events == ["b 2"]


async def test_turns_that_bring_one_thing_each_are_not_waited_for_until_more_comes_again() -> None:
    events: list[str] = []
    a, _ = two(events)
    turn = Turn(lambda: events.append("kept"))

    async def turns(count: int, things: int) -> int:
        """In how many of them the first thing was sent at once."""
        early = 0
        for _ in range(count):
            events.clear()
            for _ in range(things):
                turn.await_keep()
                turn.write(a, b"1")
                assert events[:1] in ([], ["kept"])
                early += events == ["kept", "a 1"]
            await asyncio.sleep(0)
            assert events.count("a 1") == things
        return early

    assert await turns(8, 1) == 0
    assert await turns(1024, 1) == 1024
    assert await turns(8, 1) == 0
    assert await turns(512, 2) == 512  # both of each were kept at once
    assert await turns(100, 2) == 0
    assert await turns(100, 20) == 0


async def test_what_cannot_be_kept_at_once_is_tried_again_at_the_turns_end() -> None:
    events: list[str] = []
    a, b = two(events)
    faults = [False] * 8 + [True, True, False]

    def keep() -> None:
        if faults.pop(0):
            raise OSError("the disk is gone")

    turn = Turn(keep)
    for _ in range(8):
        turn.await_keep()
        await asyncio.sleep(0)
    turn.await_keep()
    turn.write(a, b"1")
    await asyncio.sleep(0)
    assert events == ["a aborted"]
    turn.await_keep()
    turn.write(b, b"2")
    assert events == ["a aborted", "b 2"]
    assert not faults


async def test_a_connection_that_takes_nothing_holds_back_no_other(caplog: pytest.LogCaptureFixture) -> None:
    events: list[str] = []
    a, b = two(events)

    def broken(data: bytes) -> None:
        raise RuntimeError("closed below us")

    a.write = broken
    turn = Turn(lambda: events.append("kept"))
    turn.await_keep()
    turn.write(a, b"1")
    turn.write(b, b"2")
    assert turn.settle()
    turn.write(b, b"3")
    assert events == ["kept", "a aborted", "b 2", "b 3"]
    assert "it took nothing" in caplog.text


async def test_after_a_failure_nothing_is_sent_until_what_waits_is_kept() -> None:
    """What was not written down is still owed to the journal, whoever sends next: a retry has nothing new to keep."""
    events: list[str] = []
    a, b = two(events)
    faults = [True, True, False]

    def keep() -> None:
        if faults.pop(0):
            raise OSError("the disk is full")
        events.append("kept")

    turn = Turn(keep)
    turn.await_keep()
    turn.write(a, b"1")
    assert not turn.settle()
    turn.write(b, b"2")
    assert not turn.settle()
    assert events == ["a aborted", "b aborted"]
    a.closing = b.closing = False
    turn.write(a, b"3")
    for _ in range(3):
        await asyncio.sleep(0)
    assert events[2:] == ["kept", "a 3"]
    turn.write(b, b"4")
    assert events[-1] == "b 4"


async def test_what_is_written_while_it_sends_goes_behind_what_leaves() -> None:
    events: list[str] = []
    a, b = two(events)
    turn = Turn(lambda: events.append("kept"))
    after_the_first(a, lambda: turn.write(b, b"3"))
    turn.await_keep()
    turn.write(a, b"1")
    turn.write(b, b"2")
    turn.settle()
    assert events == ["kept", "a 1", "b 2", "b 3"]


async def test_where_it_cannot_be_kept_nothing_is_sent_and_the_connections_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[str] = []
    a, b = two(events)
    faults = [OSError("the disk is gone"), OSError("the disk is still gone")]

    def keep() -> None:
        if faults:
            raise faults.pop(0)
        events.append("kept")

    turn = Turn(keep)
    turn.await_keep()
    turn.write(a, b"1")
    turn.write(b, b"2")
    assert not turn.settle()
    assert events == ["a aborted", "b aborted"]
    assert "2 connections end" in caplog.text
    assert not turn.settle(), "it is still not kept"
    assert turn.settle()
    assert events[2:] == ["kept"]


async def test_what_is_written_and_settled_while_it_sends_overtakes_nothing() -> None:
    events: list[str] = []
    a, b = two(events)
    turn = Turn(lambda: events.append("kept"))

    def answer() -> None:
        turn.await_keep()
        turn.write(a, b"answer")
        turn.settle()

    after_the_first(b, answer)
    turn.await_keep()
    turn.write(b, b"1")
    turn.write(b, b"2")
    for _ in range(3):
        await asyncio.sleep(0)
    assert events == ["kept", "b 1", "kept", "b 2", "a answer"]
