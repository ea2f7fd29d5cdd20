"""Problem documents (RFC 9457): what a refused caller reads. Each type has its page in docs/errors.md."""

import json
from dataclasses import dataclass, field
from typing import Any

# draft-ietf-httpapi-ratelimit-headers-11 registers this type for exhausted limits and quotas.
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal. ``type`` is a URI; ``headers`` are extra reply headers; ``extra`` are extension members."""

    status: int
    code: str
    title: str
    detail: str
    type: str
    headers: tuple[tuple[str, str], ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def body(self, *, instance: str | None = None) -> bytes:
        """The document, UTF-8 JSON. ``instance`` is the request's id."""
        document: dict[str, Any] = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if instance is not None:
            document["instance"] = f"urn:uuid:{instance}"
        return json.dumps(document | self.extra, ensure_ascii=False, separators=(",", ":")).encode()


# The status and the title of each code.
_TITLES: dict[str, tuple[int, str]] = {
    "bad_request": (400, "The request is not valid HTTP"),
    "key_missing": (401, "An API key or token is required"),
    "key_malformed": (401, "The API key is mistyped or cut short"),
    "key_unknown": (401, "The API key is not known"),
    "key_revoked": (401, "The API key was revoked"),
    "key_expired": (401, "The API key has expired"),
    "credentials_ambiguous": (401, "More than one credential was sent"),
    "certificate_unknown": (401, "The client certificate belongs to no account"),
    "certificate_expired": (401, "The client certificate has expired"),
    "token_invalid": (401, "The token is not valid"),
    "token_expired": (401, "The token has expired"),
    "payment_required": (402, "A payment is due"),
    "credits_exhausted": (402, "The credits are used up"),
    "spend_cap_reached": (402, "The spend cap is reached"),
    "address_denied": (403, "Calls from this address are not taken"),
    "tenant_closed": (403, "The account is closed"),
    "tenant_unknown": (403, "The account is not known"),
    "plan_unknown": (403, "The account's plan is not defined"),
    "feature_not_in_plan": (403, "The plan does not include this"),
    "scope_missing": (403, "The key's scopes do not allow this"),
    "test_keys_unavailable": (403, "The plan has no test keys"),
    "route_unknown": (404, "There is nothing at this address"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "request_timeout": (408, "The request took too long to arrive"),
    "body_too_large": (413, "The request's body is too large"),
    "uri_too_long": (414, "The request's address is too long"),
    "expectation_failed": (417, "The request expects what is not offered"),
    "limit_exceeded": (429, "A rate limit was reached"),
    "concurrency_exceeded": (429, "Too many requests at once"),
    "quota_exceeded": (429, "A quota is used up"),
    "too_many_failures": (429, "Too many failed attempts to authenticate"),
    "headers_too_large": (431, "The request's headers are too large"),
    "internal_error": (500, "The sidecar failed"),
    "not_implemented": (501, "The request uses a transfer coding or method that is not supported"),
    "upstream_failed": (502, "The API did not give a usable answer"),
    "upstream_unavailable": (503, "The API cannot be reached"),
    "upstream_busy": (503, "The API is at its capacity"),
    "store_unavailable": (503, "A store that is needed to decide is not available"),
    "limits_unavailable": (503, "The limits cannot be counted"),
    "journal_full": (503, "Usage cannot be recorded"),
    "draining": (503, "The sidecar is shutting down"),
    "upstream_timeout": (504, "The API took too long to answer"),
    "version_not_supported": (505, "The HTTP version is not supported"),
    "loop_detected": (508, "The request went in a circle"),
}
CODES = frozenset(_TITLES)
_LIMITS = frozenset({"limit_exceeded", "concurrency_exceeded", "quota_exceeded"})


def problem(
    code: str, detail: str, *, headers: tuple[tuple[str, str], ...] = (), extra: dict[str, Any] | None = None
) -> Problem:
    """The problem named ``code``; KeyError when the code is not in the table above."""
    status, title = _TITLES[code]
    kind = QUOTA_EXCEEDED if code in _LIMITS else f"urn:sidecar:problem:{code}"
    return Problem(status, code, title, detail, kind, headers, extra or {})


def passing_problem(code: str, detail: str) -> Problem:
    """One that may be over in a moment, and says so by ``Retry-After``; KeyError as above."""
    return problem(code, detail, headers=(("Retry-After", "1"),))
