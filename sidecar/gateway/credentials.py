"""What of the credentials crosses to the upstream: ours are consumed, somebody else's pass (RFC 9110, 11.6)."""

from sidecar.gateway.rules import Rules
from sidecar.http1 import RequestHead
from sidecar.identity import Found


def own_credentials(head: RequestHead, found: Found | None, rules: Rules) -> bytes:
    """The field lines of the key header and of Authorization that the upstream gets."""
    lines = b""
    if not rules.strip_key:
        lines = b"".join(b"%b: %b\r\n" % (rules.key_header, value) for value in head.api_keys)
    for value in () if head.ends_here else head.authorizations:
        if not rules.strip_key or not _is_ours(value, found, rules):
            lines += b"Authorization: %b\r\n" % value
    return lines


def target_without_key(head: RequestHead, rules: Rules) -> bytes:
    """The request target without the query parameter that carries keys, every other byte as it was."""
    if not rules.strip_key or not head.query:
        return head.target
    query = rules.finder.without_key(head.query)
    return head.path + b"?" + query if query else head.path


def _is_ours(value: bytes, found: Found | None, rules: Rules) -> bool:
    credential = value.strip().partition(b" ")[2].strip()
    return credential.startswith(rules.brand) or (found is not None and credential == found.secret)
