"""Path templates and host patterns of routes: what is a valid one, and which two match the same requests."""

import re

from sidecar.config.kinds import ScalarKind, text_of
from sidecar.config.reading import Scalar, quoted

OWN = "/_sidecar"  # the sidecar answers these itself
_PARAMETER = re.compile(r"\{([a-z_][a-z0-9_]{0,63})(\.\.\.)?\}")
# Requests are matched decoded and without doubled slashes, so these cannot stand in a template (http1.paths).
_NEVER = re.compile(r"[%;\\]")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")


def _parse_path(scalar: Scalar) -> str:
    path = text_of(scalar)
    if not path.startswith("/"):
        raise ValueError(f'{quoted(path)} does not start with a slash; write "/{path[:60]}"')
    if path == OWN or path.startswith(OWN + "/"):
        raise ValueError(f"{quoted(path)} can never match: the sidecar answers {OWN}/... itself; write another path")
    if "?" in path or "#" in path:
        raise ValueError(f"{quoted(path)} holds a query or fragment; write the path alone")
    if "//" in path:
        raise ValueError(f"{quoted(path)} can never match: doubled slashes are taken for one; write one")
    if not path.isprintable():
        raise ValueError(f"{quoted(path)} holds characters that cannot be seen; remove them")
    seen = set()
    segments = path[1:].split("/")
    for index, segment in enumerate(segments):
        parameter = _parameter(segment, path)
        if parameter is None:
            continue
        name, rest = parameter
        if rest and index != len(segments) - 1:
            raise ValueError(f"{quoted(path)}: {segment} takes all the rest, so it must stand last")
        if name in seen:
            raise ValueError(f"{quoted(path)} names two segments {quoted(name)}; give each a name of its own")
        seen.add(name)
    return path


def _parameter(segment: str, path: str) -> tuple[str, bool] | None:
    """Name and whether it takes the rest, or None for a literal segment."""
    match = _PARAMETER.fullmatch(segment)
    if match is not None:
        return match[1], match[2] is not None
    if "{" in segment or "}" in segment:
        raise ValueError(
            f"{quoted(path)}: {quoted(segment)} is no segment; "
            "write one whole segment as {name} in lower case, or {name...} last"
        )
    if segment in (".", ".."):
        raise ValueError(f"{quoted(path)} holds the segment {quoted(segment)}; write the path without it")
    wrong = _NEVER.search(segment)
    if wrong is not None:
        raise ValueError(
            f"{quoted(path)} can never match: requests are compared decoded and without parameters; "
            f"write the character itself instead of {quoted(segment[wrong.start() :][:3])}"
        )
    return None


def _parse_host(scalar: Scalar) -> str:
    host = text_of(scalar)
    if host != host.lower():
        raise ValueError(
            f"{quoted(host)} has capitals; host names are compared in lower case, write {quoted(host.lower())}"
        )
    if _HOST.fullmatch(host) is None or len(host) > 253:
        raise ValueError(
            f'{quoted(host)} is no host pattern; write "api.example.com" or "*.example.com", without a port'
        )
    return host


def shape(path: str) -> str:
    """The template without its names: two paths of one shape match the same requests. A slash at the end is nothing."""
    return _PARAMETER.sub(lambda match: "{...}" if match[2] else "{}", path).rstrip("/")


PATH = ScalarKind(
    'a path template such as "/v1/chat/{id}"',
    _parse_path,
    {"type": "string", "pattern": r"^/(?!_sidecar(/|$))[^?#%;]*$"},
)
HOST = ScalarKind(
    "a host name, or *.example.com for every name below", _parse_host, {"type": "string", "pattern": "^[^:/A-Z]+$"}
)
