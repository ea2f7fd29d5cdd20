"""HTTP/1.1 as bytes: keep-alive, pipelining, replies without bodies, and what is refused (http.md 1)."""

import http.client
import subprocess

import pytest

from tests.e2e.process import Sidecar, connect, open_socket, raw, receive_until


@pytest.fixture(scope="module")
def key(front: Sidecar) -> str:
    return front.key("framing")


def request(key: str, line: str, *fields: str, body: str = "") -> bytes:
    lines = [line, "Host: a", f"X-API-Key: {key}", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")


def test_a_connection_is_kept(front: Sidecar, key: str) -> None:
    connection = connect(front.base)
    try:
        for number in range(3):
            connection.request("POST", f"/echo/{number}", body=b"x" * number, headers={"X-API-Key": key})
            reply = connection.getresponse()
            assert f"/echo/{number}".encode() in reply.read()
            assert connection.sock is not None
    finally:
        connection.close()


def test_pipelined_requests_are_answered_in_order(front: Sidecar, key: str) -> None:
    sent = b"".join(request(key, f"GET /echo/{number} HTTP/1.1") for number in range(8))
    last = request(key, "GET /echo/last HTTP/1.1", "Connection: close")
    answer = raw(front.base, sent + last)
    targets = [part.split(b'"')[0] for part in answer.split(b'"target": "')[1:]]
    assert targets == [b"/echo/%d" % number for number in range(8)] + [b"/echo/last"]


def test_head_keeps_the_length_and_has_no_body(front: Sidecar, key: str) -> None:
    answer = raw(front.base, request(key, "HEAD /bytes/1234 HTTP/1.1", "Connection: close"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: 1234" in head.lower()
    assert body == b""


@pytest.mark.parametrize("status", [204, 304])
def test_replies_without_a_body(front: Sidecar, key: str, status: int) -> None:
    """Two on one connection: the second would be eaten by a body that was waited for."""
    sent = request(key, f"GET /status/{status} HTTP/1.1") + request(
        key, f"GET /status/{status} HTTP/1.1", "Connection: close"
    )
    answer = raw(front.base, sent)
    assert answer.count(b"HTTP/1.1 %d " % status) == 2
    assert answer.endswith(b"\r\n\r\n")
    assert b"transfer-encoding" not in answer.lower()


def test_a_chunked_upload(front: Sidecar, key: str) -> None:
    body = "5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    answer = raw(
        front.base, request(key, "POST /echo HTTP/1.1", "Transfer-Encoding: chunked", "Connection: close", body=body)
    )
    assert b'"length": 6' in answer


def test_http_1_0_gets_no_chunks_and_no_second_reply(front: Sidecar, key: str) -> None:
    answer = raw(front.base, request(key, "GET /chunked/10 HTTP/1.0"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"x" * 10


def test_absolute_form_and_options_star(front: Sidecar, key: str) -> None:
    answer = raw(front.base, request(key, "GET http://other.example/echo?x HTTP/1.1", "Connection: close"))
    assert b'"target": "/echo?x"' in answer
    assert raw(front.base, request(key, "OPTIONS * HTTP/1.1", "Connection: close")).startswith(b"HTTP/1.1 ")


BROKEN = {
    "both lengths": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", {400}),
    "a length that is none": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd", {400}),
    "an unknown coding": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        {400, 501},
    ),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "a folded line": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", {400}),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", {400}),
    "a NUL": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n", {400}),
    "a bare CR": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n", {400}),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", {400}),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", {400}),
    "a fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    "no request line": (b"hello\r\n\r\n", {400}),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", {405}),
    "another version": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", {505, 400}),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {505, 400}),
    "a long request line": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", {414}),
    "many fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 200 + b"\r\n", {431}),
    "large fields": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"b" * 70_000 + b"\r\n\r\n", {431}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_refused(front: Sidecar, name: str) -> None:
    """One answer, then the connection is closed, whatever follows; the process stays well."""
    sent, statuses = BROKEN[name]
    answer = raw(front.base, sent + b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert int(answer.split()[1]) in statuses
    assert b"application/problem+json" in answer
    assert front.call("GET", "/echo").status == 401


def test_a_bad_chunk_size_closes_the_connection(front: Sidecar, key: str) -> None:
    sent = request(key, "POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body="FFFFFFFFFFFFFFFFF\r\nx")
    answer = raw(front.base, sent)
    assert answer.startswith(b"HTTP/1.1 400 ") or not answer
    assert front.call("GET", "/echo").status == 401


def test_a_head_that_comes_byte_by_byte(front: Sidecar, key: str) -> None:
    with open_socket(front.base) as client:
        for byte in request(key, "GET /echo HTTP/1.1"):
            client.sendall(bytes([byte]))
        assert receive_until(client, b'"method": "GET"').startswith(b"HTTP/1.1 200 ")


def test_unknown_methods_pass(front: Sidecar, key: str) -> None:
    connection = connect(front.base)
    try:
        connection.request("PROPFIND", "/echo", headers={"X-API-Key": key})
        assert connection.getresponse().status == http.client.OK
    finally:
        connection.close()


def test_curl(front: Sidecar, key: str) -> None:
    """A client that none of us wrote; skipped where it is not installed."""
    words = ["curl", "-sS", "-H", f"X-API-Key: {key}", "-d", "a=b", "--compressed", f"{front.base}/echo"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    except FileNotFoundError:
        pytest.skip("curl is not installed")
    assert '"length": 3' in done.stdout
