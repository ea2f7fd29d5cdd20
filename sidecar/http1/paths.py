"""What a path means to an upstream, so that policy is decided on the meaning while the bytes pass untouched.

``/v1/%61dmin``, ``/v1//admin`` and ``/v1/x/../admin`` reach the same handler in most upstreams, so routes are matched
on the normalised form (RFC 3986, 6.2.2). An encoded slash is read as a separator by some frameworks and as data by
others: both readings are given, and a caller must refuse where they would be treated differently.
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

_ESCAPED_SEPARATORS = (b"%2f", b"%2F", b"%5c", b"%5C", b"\\")


@dataclass(frozen=True, slots=True)
class PathMeaning:
    """``path`` with escapes decoded and dot segments resolved; ``other`` is the second reading, None without one.

    In ``path`` a slash that is data is written ``%2F``; in ``other`` it separates.
    """

    path: bytes
    other: bytes | None = None


def read_path(path: bytes) -> PathMeaning:
    """The meaning of a raw path that begins with ``/``. Never raises; a plain path means itself."""
    if b"%" not in path and b"//" not in path and b"/." not in path and b"\\" not in path and b";" not in path:
        return PathMeaning(path)
    segments = path.split(b"/")
    as_data = _resolve([_decode(s) for s in segments])
    if not any(mark in path for mark in _ESCAPED_SEPARATORS) and b";" not in path:
        return PathMeaning(as_data)
    # Path parameters (";v=1") are dropped by servlet containers and kept by everyone else.
    flat = b"/".join(unquote_to_bytes(s.partition(b";")[0]) for s in segments).replace(b"\\", b"/")
    other = _resolve(flat.split(b"/"))
    return PathMeaning(as_data, other if other != as_data else None)


def _decode(segment: bytes) -> bytes:
    # A slash that is data stays escaped: decoded, it would be taken for a separator when routes are matched.
    return unquote_to_bytes(segment.replace(b"%2f", b"%252F").replace(b"%2F", b"%252F"))


def _resolve(segments: list[bytes]) -> bytes:
    out: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            if out:
                out.pop()
        elif segment not in (b"", b"."):
            out.append(segment)
    slash = b"/" if out and segments[-1] in (b"", b".", b"..") else b""
    return b"/" + b"/".join(out) + slash
