"""Bodies in both directions: as they come, of any length, and never whole in memory."""

import hashlib
from collections.abc import Iterator

import psutil
import pytest

from tests.e2e.api import Api
from tests.e2e.process import Sidecar, connect, open_socket, raw, receive_until

BIG = 64 * 1024**2
# What 64 MiB in flight may add: both directions' buffers (2 x 256 KiB) and the kernel's are far below; a body held
# whole would add 64 MiB.
GROWTH = 24 * 1024**2


@pytest.fixture(scope="module")
def key(front: Sidecar) -> str:
    return front.key("streaming")


def rss(front: Sidecar) -> int:
    return int(psutil.Process(front.pid).memory_info().rss)


def test_an_event_arrives_before_the_stream_ends(front: Sidecar, key: str, api: Api) -> None:
    api.hold()
    connection = connect(front.base)
    try:
        connection.request("GET", "/events", headers={"X-API-Key": key})
        reply = connection.getresponse()
        assert reply.readline() == b"data: first\n"
        api.release()
        assert reply.read() == b"\ndata: second\n\n"
    finally:
        api.release()
        connection.close()


@pytest.mark.parametrize("path", ["/bytes", "/chunked"])
def test_a_large_download_is_not_held(front: Sidecar, key: str, path: str) -> None:
    before = rss(front)
    most = received = 0
    connection = connect(front.base)
    try:
        connection.request("GET", f"{path}/{BIG}", headers={"X-API-Key": key})
        reply = connection.getresponse()
        assert reply.status == 200
        assert (reply.headers["Content-Length"] == str(BIG)) == (path == "/bytes")
        while piece := reply.read(1024**2):
            received += len(piece)
            most = max(most, rss(front))
    finally:
        connection.close()
    assert received == BIG
    assert most - before < GROWTH


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_upload_is_not_held(front: Sidecar, key: str, chunked: bool) -> None:
    before = rss(front)
    seen: list[int] = []
    piece = bytes(range(256)) * 4096

    def pieces() -> Iterator[bytes]:
        for _ in range(BIG // len(piece)):
            seen.append(rss(front))
            yield piece

    headers = {} if chunked else {"Content-Length": str(BIG)}
    reply = front.call("POST", "/echo", key, headers=headers, body=pieces(), chunked=chunked)
    document = reply.json()
    assert document["length"] == BIG
    assert document["sha256"] == hashlib.sha256(piece * (BIG // len(piece))).hexdigest()
    assert max(seen) - before < GROWTH


def test_a_reply_cut_short_is_not_taken_for_whole(front: Sidecar, key: str) -> None:
    """http.md 1.2: never padded, and the connection is not used again."""
    answer = raw(front.base, f"GET /short HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 502 ")) or not answer
    if head.startswith(b"HTTP/1.1 200 "):
        assert len(body) < 100


def test_continue_is_sent_only_to_who_may_pass(front: Sidecar, key: str) -> None:
    """http.md 1.13: decide first, then 100, or refuse without reading the body."""
    lines = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n"
    with open_socket(front.base) as client:
        client.sendall(f"{lines}X-API-Key: {key}\r\n\r\n".encode())
        assert receive_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.sendall(b"hello")
        assert receive_until(client, b'"length": 5').startswith(b"HTTP/1.1 200 ")
    with open_socket(front.base) as client:
        client.sendall(f"{lines}\r\n".encode())
        assert receive_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")


def test_an_early_answer_is_relayed(front: Sidecar, key: str) -> None:
    """http.md 1.16."""
    head = f"POST /early HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: 1000000\r\n\r\n"
    with open_socket(front.base) as client:
        client.sendall(head.encode() + b"x" * 10)
        assert receive_until(client, b"too much").startswith(b"HTTP/1.1 413 ")
