"""Heads and chunks on their way out."""

from http import HTTPStatus
from typing import Final

from sidecar.core.problems import Problem

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_STATUS_LINES: Final = {n: b"HTTP/1.1 %d %b\r\n" % (n, _PHRASES.get(n, b"")) for n in range(100, 600)}


def reason_phrase(status: int) -> bytes:
    """The standard phrase of a status, empty when it has none (RFC 9112, 4)."""
    return _PHRASES.get(status, b"")


def head_bytes(status: int, *lines: bytes) -> bytes:
    """A complete reply head; each of ``lines`` is zero or more field lines with their CRLF."""
    start = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return start + b"".join(lines) + b"\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112, 7.1); ``data`` must not be empty, because an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def problem_reply(
    problem: Problem, *, event_id: bytes, date: bytes, head_request: bool, close: bool, lines: bytes = b""
) -> bytes:
    """A whole reply carrying a problem document. ``date`` is a complete Date line, ``lines`` are more of them."""
    body = problem.body(instance=event_id.decode())
    extra = b"".join(f"{name}: {value}\r\n".encode() for name, value in problem.headers)
    head = head_bytes(
        problem.status,
        date,
        b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\n",
        b"X-Request-ID: %b\r\nContent-Length: %d\r\n" % (event_id, len(body)),
        extra,
        lines,
        b"Connection: close\r\n" if close else b"",
    )
    return head if head_request else head + body
