"""A remembered header block stands for the same block under a plain request line, and for nothing else."""

from sidecar.http1 import RequestReader

BLOCK = b"Host: a.example\r\n\r\n"


def test_the_authority_of_an_absolute_target_is_not_remembered() -> None:
    """9112 3.2.2: it replaced Host for one request; the next one with the same fields is for its own Host."""
    reader = RequestReader("X-API-Key")
    head = reader.read(b"GET", b"http://evil.example/x", b"1.1", [(b"Host", b"a.example")])
    reader.learn(b"GET http://evil.example/x HTTP/1.1\r\n" + BLOCK, head)
    known = reader.recall(b"GET /x HTTP/1.1\r\n" + BLOCK)
    assert known is None or known.host == b"a.example"


def test_max_forwards_means_something_to_options_only() -> None:
    reader = RequestReader("X-API-Key")
    block = b"Host: a.example\r\nMax-Forwards: 0\r\n\r\n"
    head = reader.read(b"GET", b"/", b"1.1", [(b"Host", b"a.example"), (b"Max-Forwards", b"0")])
    reader.learn(b"GET / HTTP/1.1\r\n" + block, head)
    assert reader.recall(b"GET / HTTP/1.1\r\n" + block) is head
    assert reader.recall(b"OPTIONS / HTTP/1.1\r\n" + block) is None
