"""A request's head from HTTP/2 as one of HTTP/1.1 (RFC 9113, 8.3), for the lane's own parser, which judges the rest.

What h2 has checked already: the pseudo-fields are there once and first, names are lower-case, no field of the
connection is among them, Host agrees with ``:authority``. Here: nothing in a value may begin another line or word.
"""

import re
from collections.abc import Iterable

from sidecar.http1 import Field

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_TARGET = re.compile(rb"[^\x00-\x20\x7f]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")


class BadHead(Exception):
    """The request is malformed (RFC 9113, 8.1.1): its stream is reset."""


def request_head(fields: Iterable[Field], *, ended: bool) -> tuple[bytes, bytes, bool]:
    """(head, method, whether the body must be sent chunked). ``ended``: no body comes. BadHead."""
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    cookies: list[bytes] = []
    length = False
    for name, value in fields:
        if name.startswith(b":"):
            pseudo[name] = value
            continue
        _check(_NAME, name, "a field's name")
        _check(_VALUE, value, "a field's value")
        if name == b"cookie":
            cookies.append(value)  # one field may be split in many (RFC 9113, 8.2.3)
        elif name != b"host":
            length = length or name == b"content-length"
            lines.append(b"%b: %b\r\n" % (name, value))
        else:
            pseudo.setdefault(b":authority", value)
    if cookies:
        lines.append(b"cookie: %b\r\n" % b"; ".join(cookies))
    method, authority = pseudo[b":method"], pseudo.get(b":authority")
    _check(_METHOD, method, "the method")
    target = pseudo.get(b":path", authority or b"")  # CONNECT has no path; the lane refuses it
    _check(_TARGET, target, "the path")
    if authority is not None:
        _check(_TARGET, authority, "the authority")
        lines.insert(0, b"host: %b\r\n" % authority)
    chunked = not (ended or length)
    if chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join(lines)), method, chunked


def _check(pattern: re.Pattern[bytes], value: bytes, what: str) -> None:
    if pattern.fullmatch(value) is None:
        raise BadHead(f"{what} has bytes that are not allowed")
