"""The short form of ``make fuzz``: what was found before, in every cut, and some new inputs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.checking import ASKS, check_reply, check_requests, one, with_key
from tests.fuzz.generating import REPLIES, REQUESTS, some_reply, some_requests
from tests.fuzz.memory import MemoryLane
from tests.fuzz.parsing import parse_replies, parse_requests
from tests.fuzz.running import memory_lane

CORPUS = Path(__file__).parent / "corpus"


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[MemoryLane]:
    with asyncio.Runner() as runner, memory_lane(runner, tmp_path) as made:
        yield made


def cuts(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    yield [data[n : n + 1] for n in range(len(data))]
    for at in range(1, len(data), 7):
        yield [data[:at], data[at:]]


def test_requests_that_were_found(lane: MemoryLane) -> None:
    found = [file.read_bytes() for file in sorted((CORPUS / "requests").glob("*.http"))]
    assert found
    for raw in [*found, *REQUESTS]:
        data = with_key(lane, raw)
        for pieces in cuts(data):
            check_requests(lane, data, pieces)


def test_replies_that_were_found(lane: MemoryLane) -> None:
    found = [file.read_bytes() for file in sorted((CORPUS / "replies").glob("*.http"))]
    assert found
    for data in [*found, *REPLIES]:
        for method in sorted(ASKS):
            for pieces in cuts(data):
                check_reply(lane, method, data, pieces, reset=len(pieces) == 2)


@pytest.mark.parametrize("kind", ["requests", "replies"])
def test_new_inputs(lane: MemoryLane, kind: str) -> None:
    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 1 << 32))
    def check(seed: int) -> None:
        rng = Random(seed)
        one(lane, rng, kind, some_requests(rng) if kind == "requests" else some_reply(rng))

    check()


@pytest.mark.parametrize("kind", ["requests", "replies"])
def test_what_is_read_does_not_depend_on_how_it_is_cut(kind: str) -> None:
    @settings(max_examples=400, deadline=None)
    @given(st.integers(0, 1 << 32))
    def check(seed: int) -> None:
        rng = Random(seed)
        data = some_requests(rng) if kind == "requests" else some_reply(rng)
        (parse_requests if kind == "requests" else parse_replies)(rng, data)

    check()


def test_a_wrong_answer_is_seen(lane: MemoryLane) -> None:
    """The judge can fail: an upstream's second reply that reached the client would be noticed."""
    ok = REPLIES[0]
    with pytest.raises(AssertionError):
        check_requests(lane, b"GET /open/a HTTP/1.1\r\nHost: a\r\n\r\n", [b"GET /open/b HTTP/1.1\r\nHost: a\r\n\r\n"])
    with pytest.raises(AssertionError):
        check_reply(lane, b"GET", ok, [ok.replace(b"ok", b"no")], reset=False)
