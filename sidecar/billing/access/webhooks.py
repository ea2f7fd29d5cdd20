"""What Stripe posts: verified, made small, written down. What it says is never believed: it says what to read again."""

import json
import re
from collections.abc import Sequence
from typing import Any

from sidecar.core.accounts import Arrival
from sidecar.core.clock import NS_PER_S
from sidecar.core.errors import SidecarError

MOST_BODY = 512 * 1024  # bytes; an invoice event with its ten lines is about 30 KiB
MOST_HEADER = 4096  # characters
TOLERANCE_S = 300
_ID = re.compile(r"[A-Za-z0-9_]{3,255}")
_TYPE = re.compile(r"[a-z0-9_.]{1,120}")
_HINTS = ("object", "customer", "subscription", "status")


class Malformed(SidecarError):
    """A delivery that is not Stripe's, or not one that can be read. The text is safe to show; ``reason`` is a label."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def verified(body: bytes, signature: str, secrets: Sequence[str], now_ns: int) -> Arrival:
    """The event of a delivery whose signature one of the secrets made within the last five minutes. Malformed."""
    if len(body) > MOST_BODY:
        raise Malformed("too_large", f"the body is larger than {MOST_BODY // 1024} KiB")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("not_utf8", "the body is not UTF-8") from None
    _check_signature(text, signature, secrets, now_ns)
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed("not_json", "the body is not JSON") from None
    return _arrival(event, now_ns)


def _check_signature(text: str, signature: str, secrets: Sequence[str], now_ns: int) -> None:
    import stripe  # 8 MB, only where Stripe is used

    stamps = re.findall(r"(?:^|,)\s*t=([^,]*)", signature[:MOST_HEADER])
    if len(signature) > MOST_HEADER or len(stamps) != 1 or not re.fullmatch(r"[0-9]{1,12}", stamps[0], re.ASCII):
        raise Malformed("bad_header", "Stripe-Signature is missing or cannot be read")
    for secret in secrets:
        try:
            # Whether it is recent is decided below: the package asks the machine's clock, and takes future ones.
            stripe.WebhookSignature.verify_header(text, signature, secret, None)
            break
        except Exception:  # noqa: S112 - letters beyond ASCII are a TypeError there; whatever it is, it is not signed
            continue
    else:
        raise Malformed("bad_signature", "no secret of billing.stripe.webhook_secrets made this signature")
    if abs(now_ns // NS_PER_S - int(stamps[0])) > TOLERANCE_S:
        raise Malformed("too_old", f"the signature is not of the last {TOLERANCE_S} s; check both clocks")


def _arrival(event: Any, now_ns: int) -> Arrival:
    if not isinstance(event, dict) or event.get("object") not in ("event", "v2.core.event"):
        raise Malformed("not_an_event", "the body is no event of Stripe")
    if not is_event(event):
        raise Malformed("not_an_event", "the event has no id or no type")
    return arrival_of(event, now_ns)


def is_event(event: dict[str, Any]) -> bool:
    """Whether it has an id and a type that can be kept."""
    return _is(_ID, event.get("id")) and _is(_TYPE, event.get("type"))


def arrival_of(event: dict[str, Any], now_ns: int) -> Arrival:
    """What is kept of an event: what it is about, not what it says. About 300 bytes."""
    data = event.get("data")
    about = data.get("object") if isinstance(data, dict) else None
    about = about if isinstance(about, dict) else event.get("related_object")
    about = about if isinstance(about, dict) else {}
    hints = {name: about[name] for name in _HINTS if _is(re.compile(r"[A-Za-z0-9_.]{1,255}"), about.get(name))}
    kept = {"object": event.get("object"), "livemode": event.get("livemode") is True, "about": hints}
    object_id = about["id"] if _is(_ID, about.get("id")) else ""
    return Arrival(str(event["id"]), str(event["type"]), object_id, json.dumps(kept), now_ns)


def hint(arrival: Arrival, name: str) -> str:
    """Such as the customer of what an event is about; empty when it does not say."""
    try:
        found = json.loads(arrival.payload)["about"].get(name)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return found if isinstance(found, str) else ""


def _is(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
