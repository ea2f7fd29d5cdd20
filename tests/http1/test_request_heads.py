"""The request reader and the reply reader on fields alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.problems import problem
from sidecar.http1 import Malformed, RequestReader, chunk, head_bytes, problem_reply, read_reply, trailer_lines

READER = RequestReader("X-Key", ["X-Identity-Token"])
HOST = (b"Host", b"a")


def read(*fields: tuple[bytes, bytes], method: bytes = b"GET", target: bytes = b"/", version: bytes = b"1.1"):
    return READER.read(method, target, version, [HOST, *fields])


def test_special_fields_are_taken_out_of_the_lines() -> None:
    head = read((b"x-key", b"k"), (b"Authorization", b"b"), (b"X-A", b"1"), (b"X_Identity_Token", b"t"), (b"a_b", b"2"))
    assert (head.api_keys, head.authorizations, head.host) == ((b"k",), (b"b",), b"a")
    assert head.forward == b"X-A: 1\r\na_b: 2\r\n"


def test_what_connection_names_goes_but_not_what_frames() -> None:
    head = read((b"X-A", b"1"), (b"Connection", b"x-a, content-length, host"), (b"Content-Length", b"3"))
    assert (head.forward, head.length, head.host) == (b"", 3, b"a")
    assert head.has_body


HOSTS = [b"a", b"a:80", b"a.b-c_d~:8080", b"[::1]", b"[::1]:80", b"1.2.3.4", b"a:", b"a:65535", b"a:00080"]
NO_HOSTS = [b"", b"a/b", b"u@a", b"a b", b"a:x", b"[::1", b"::1", b"a#", b"a:123456", b"a:65536", b"[::1]:99999"]


@pytest.mark.parametrize("value", HOSTS)
def test_hosts(value: bytes) -> None:
    assert READER.read(b"GET", b"/", b"1.1", [(b"Host", value)]).host == value


@pytest.mark.parametrize("value", NO_HOSTS)
def test_what_is_no_host(value: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        READER.read(b"GET", b"/", b"1.1", [(b"Host", value)])
    assert caught.value.code == "bad_request"


def test_the_target_is_split_once() -> None:
    head = read(target=b"/a?b?c")
    assert (head.path, head.query, head.target) == (b"/a", b"b?c", b"/a?b?c")


def test_more_than_64_proxies_are_a_loop() -> None:
    with pytest.raises(Malformed) as caught:
        read(*[(b"Via", b"1.1 p")] * 65)
    assert caught.value.code == "loop_detected"


_TOKEN = st.text("abcdefgh-_", min_size=1, max_size=8).map(str.encode)
_VALUE = st.binary(max_size=8).filter(lambda value: not set(value) & {0, 10, 13})


@given(st.lists(st.tuples(_TOKEN, _VALUE), max_size=8), st.lists(_TOKEN, max_size=3))
def test_every_field_crosses_once_unless_it_is_named(fields: list[tuple[bytes, bytes]], named: list[bytes]) -> None:
    known = {b"te", b"via"}
    fields = [field for field in fields if field[0] not in known]
    head = read(*fields, (b"Connection", b", ".join(named)))
    kept = [field for field in fields if field[0] not in named]
    assert head.forward == b"".join(b"%b: %b\r\n" % field for field in kept)


def test_replies_frame_as_they_say() -> None:
    assert read_reply(200, b"1.1", [(b"Content-Length", b"3")], head_request=False).length == 3
    assert read_reply(200, b"1.1", [(b"Transfer-Encoding", b"chunked")], head_request=False).chunked
    assert read_reply(200, b"1.1", [], head_request=False).to_eof
    assert not read_reply(200, b"1.1", [], head_request=True).to_eof
    assert not read_reply(304, b"1.1", [], head_request=False).to_eof
    assert read_reply(200, b"1.0", [(b"Content-Length", b"3")], head_request=False).close


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        (b"1.1", [(b"Content-Length", b"1"), (b"Content-Length", b"2")]),
        (b"1.1", [(b"Content-Length", b"")]),
        (b"1.1", [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")]),
        (b"1.1", [(b"Transfer-Encoding", b"gzip, chunked")]),
        (b"1.0", [(b"Transfer-Encoding", b"chunked")]),
        (b"2.0", []),
    ],
)
def test_replies_that_cannot_be_framed(version: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ValueError, match="upstream"):
        read_reply(200, version, fields, head_request=False)


def test_trailers_are_filtered() -> None:
    assert trailer_lines([(b"X-Sum", b"1"), (b"Content-Length", b"2"), (b"Host", b"e")]) == b"X-Sum: 1\r\n"


def test_writing() -> None:
    assert head_bytes(299, b"A: b\r\n", b"C: d\r\n") == b"HTTP/1.1 299 \r\nA: b\r\nC: d\r\n\r\n"
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    refusal = problem("body_too_large", "too much", headers=(("X-A", "b"),))
    whole = problem_reply(refusal, event_id=b"e", date=b"Date: d\r\n", head_request=False, close=True)
    head, _, body = whole.partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    assert b"X-A: b\r\nConnection: close" in head
    asked_by_head = problem_reply(refusal, event_id=b"e", date=b"Date: d\r\n", head_request=True, close=True)
    assert asked_by_head == head + b"\r\n\r\n"
