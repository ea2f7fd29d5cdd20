"""A notice as a webhook, signed as Standard Webhooks 1.0 says (https://www.standardwebhooks.com)."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

from sidecar.core.accounts import Notice
from sidecar.core.clock import NS_PER_S


def request_of(notice: Notice, secret: str, now_ns: int) -> tuple[dict[str, str], bytes]:
    """Headers and body of one attempt. ``webhook-id`` stays the same over all attempts: receivers dedupe by it."""
    at = datetime.fromtimestamp(notice.at_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {"type": notice.kind, "timestamp": at, "data": {"tenant": notice.tenant, **notice.facts}}
    body = json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode()
    # Ids hold tenants' names and the payee's words; a digest has a bounded length and needs no quoting.
    id = f"msg_{hashlib.sha256(notice.id.encode('utf-8', 'replace')).hexdigest()[:32]}"
    stamp = str(now_ns // NS_PER_S)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }, body
