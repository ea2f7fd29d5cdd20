"""Failures turned into the problem documents that clients read."""

import httptools

from sidecar.core.errors import Unauthenticated, UpstreamError
from sidecar.core.problems import CODES, Problem, passing_problem, problem
from sidecar.http1 import Malformed

_UPSTREAM_CODES = {
    "connect": "upstream_unavailable",
    "connect_timeout": "upstream_unavailable",
    "open": "upstream_unavailable",
    "busy": "upstream_busy",
    "first_byte_timeout": "upstream_timeout",
    "idle_timeout": "upstream_timeout",
    "total_timeout": "upstream_timeout",
}
_UNREACHED = frozenset({"connect", "connect_timeout"})


def caller_problem(error: Unauthenticated) -> Problem:
    """Why this caller is nobody."""
    code = error.reason if error.reason in CODES else "key_unknown"
    if error.retry_s is not None:
        return problem(code, error.detail, headers=(("Retry-After", str(error.retry_s)),))
    refusal = problem(code, error.detail)
    if refusal.status != 401:
        return refusal
    return problem(code, error.detail, headers=(("WWW-Authenticate", 'Bearer realm="api"'),))  # RFC 9110, 11.6.1


def upstream_problem(error: UpstreamError) -> Problem:
    """Why the API did not answer."""
    code = _UPSTREAM_CODES.get(error.kind, "upstream_failed")
    made = passing_problem if code in ("upstream_unavailable", "upstream_busy") else problem
    # Where the API stands is not the caller's to know; the log has it.
    detail = "The API behind this address cannot be reached." if error.kind in _UNREACHED else error.detail
    return made(code, detail)


_ANY_METHOD = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def allow_line(allowed: set[bytes]) -> bytes:
    """An Allow field line; with no names, those that any address may take."""
    return b"Allow: %b\r\n" % (b", ".join(sorted(allowed)) if allowed else _ANY_METHOD.encode())


def not_here_problem(detail: str) -> Problem:
    """The method cannot be served by a proxy (RFC 9110, 15.5.6: with Allow)."""
    return problem("method_not_allowed", detail, headers=(("Allow", _ANY_METHOD),))


def address_problem(allowed: set[bytes]) -> Problem:
    """Why nothing is here: no route at all, or none for this method; ``allowed`` are those that would match."""
    if not allowed:
        return problem("route_unknown", "no route of the policy matches this method, host and path")
    names = b", ".join(sorted(allowed)).decode("latin-1")
    return problem("method_not_allowed", f"this address takes {names}", headers=(("Allow", names),))


def body_problem(bound: int) -> Problem:
    """The body is larger than the route takes."""
    return problem("body_too_large", f"the body may have at most {bound} bytes")


def malformed_problem(error: Malformed) -> Problem:
    """The answer to bytes that are no request."""
    if error.code == "method_not_allowed":
        return not_here_problem(error.detail)
    return problem(error.code, error.detail)


def malformed(error: Exception) -> Malformed:
    """What llhttp or one of our callbacks found wrong with the bytes, as a refusal."""
    if isinstance(error, httptools.HttpParserCallbackError) and isinstance(error.__context__, Malformed):
        return error.__context__
    if isinstance(error, Malformed):
        return error
    text = str(error)
    if "transfer-encoding" in text.lower() and "content-length" not in text.lower():
        return Malformed("not_implemented", "the only transfer coding is chunked (RFC 9112, 6.1)")
    return Malformed("bad_request", f"the request is not HTTP/1.1: {text}")
