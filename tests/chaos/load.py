"""The clients: a bounded number of connections that call without end, and the book of every answer they saw whole.

A call carries ``X-Call``, a number that the upstream writes into its log beside the event id; so a call that was never
answered can be told from others too.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TextIO

_PATIENCE_S = 60.0  # a bound on waiting for an answer, never an expectation of speed
_GIVEN_UP_S = 3.0  # a call that the client left less than this ago may still be open in the sidecar
_GIVE_UP = 0.02


@dataclass(frozen=True, slots=True)
class Key:
    """What one caller shows; ``sandbox``: a test key."""

    text: str
    tenant: str
    sandbox: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer seen to its last byte. ``ran``: it came from the upstream; ``sent`` and ``got``: body bytes."""

    call: int
    event_id: str
    status: int
    ran: bool
    sent: int
    got: int
    tenant: str
    sandbox: bool


@dataclass(slots=True)
class ClientBook:
    """``open``: sent, not answered; ``unanswered``: ended without a whole answer, in all; ``given_up``: when, of those
    that the client itself left in the middle; ``in_flight``: calls that were open at the kills, in all."""

    answers: list[Answer] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    unanswered: set[int] = field(default_factory=set)
    given_up: dict[int, float] = field(default_factory=dict)
    in_flight: int = 0

    def killed(self) -> None:
        """To be called right before the sidecar ends: what is open now may stay without an end."""
        now = time.monotonic()
        self.given_up = {call: at for call, at in self.given_up.items() if now - at < _GIVEN_UP_S}
        self.in_flight += len(self.open) + len(self.given_up)


class Load:
    """``callers`` connections to ``port`` that make at most about ``rate`` calls a second together."""

    def __init__(self, port: int, keys: list[Key], rng: random.Random, log: TextIO, *, callers: int, rate: int) -> None:
        self.book = ClientBook()
        self._port = port
        self._keys = keys
        self._seeds = [rng.randrange(1 << 62) for _ in range(callers)]
        self._log = log
        self._pause_s = 2 * callers / rate
        self._calls = 0
        self._go = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to call; the callers wait while there is nobody."""
        self._go.set()
        self._tasks = [asyncio.create_task(self._caller(n, random.Random(s))) for n, s in enumerate(self._seeds)]

    async def pause(self) -> None:
        """Begins no more calls; returns when none is open."""
        self._go.clear()
        deadline = time.monotonic() + _PATIENCE_S
        while self.book.open and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    def resume(self) -> None:
        """Calls again after ``pause``."""
        self._go.set()

    async def stop(self) -> None:
        """Ends the callers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _caller(self, number: int, rng: random.Random) -> None:
        key = self._keys[number % len(self._keys)]
        streams = number % 5 == 0
        while True:
            await self._go.wait()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
            except OSError:
                await asyncio.sleep(rng.uniform(0.01, 0.05))
                continue
            try:
                while self._go.is_set():
                    if not await self._call(reader, writer, key, streams, rng):
                        break
                    await asyncio.sleep(rng.uniform(0, self._pause_s))
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
                pass
            finally:
                writer.transport.abort()

    async def _call(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: Key, streams: bool, rng: random.Random
    ) -> bool:
        """One call; whether the connection can be used again."""
        self._calls = call = self._calls + 1
        method, path, size = _choose(streams, rng)
        give_up = rng.random() < _GIVE_UP
        self.book.open.add(call)
        try:
            async with asyncio.timeout(rng.uniform(0, 0.02) if give_up else _PATIENCE_S):
                head = f"{method} {path} HTTP/1.1\r\nHost: chaos\r\nX-API-Key: {key.text}\r\nX-Call: {call}\r\n"
                length = f"Content-Length: {size}\r\n" if size else ""
                writer.write(f"{head}{length}\r\n".encode() + bytes(size))
                await writer.drain()
                status, fields, got = await _answer(reader)
        except BaseException:
            self.book.unanswered.add(call)
            if give_up:
                self.book.given_up[call] = time.monotonic()
            raise
        finally:
            self.book.open.discard(call)
        event_id, ran = fields.get("x-request-id", "-"), "x-ran" in fields
        self.book.answers.append(Answer(call, event_id, status, ran, size, got, key.tenant, key.sandbox))
        self._log.write(f"{event_id} {call} {status} {'ran' if ran else 'own'} {size} {got} {key.tenant}\n")
        if status in (429, 503):
            await asyncio.sleep(0.05)  # a refusal is no reason to ask again at full speed
        return fields.get("connection", "").lower() != "close"


def _choose(streams: bool, rng: random.Random) -> tuple[str, str, int]:
    """Method, path and the body's size."""
    if streams:
        return "GET", f"/v1/stream/{rng.randint(1, 25)}", 0
    kind = rng.random()
    if kind < 0.55:
        return "GET", "/v1/small", 0
    if kind < 0.75:
        return "POST", "/v1/take", rng.choice((1, 300, 5_000))
    if kind < 0.85:
        return "GET", f"/v1/slow/{rng.randint(1, 80)}", 0
    if kind < 0.92:
        return "GET", f"/v1/status/{rng.choice((201, 302, 404, 500, 503))}", 0
    if kind < 0.96:
        return "POST", "/v1/take", rng.randint(100_000, 600_000)
    return "GET", f"/v1/bytes/{rng.randint(50_000, 400_000)}", 0


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], int]:
    """Status, header fields by lower-case name, and the number of body bytes; after the last byte."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")[:-4].split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    got = 0
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
            got += size
        await reader.readexactly(2)
    else:
        got = int(fields["content-length"])
        await reader.readexactly(got)
    return int(first.split(" ")[1]), fields, got
