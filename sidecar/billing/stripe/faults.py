"""What Stripe says when it does not do what it was asked, in sentences that tell what to do."""

import re
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import stripe

from sidecar.billing.stripe.client import StripeClient
from sidecar.core.errors import SidecarError

Made = TypeVar("Made")
WRONG_KEY = "Stripe does not take the API key; write a valid one where billing.stripe.api_key points to"


class StripeFault(SidecarError):
    """Stripe could not be asked, or its answer cannot be used. ``stop``: the key or one of its permissions is to blame,
    so that asking again is of no use. ``http``: the status, 0 when there is none."""

    def __init__(self, message: str, *, stop: bool = False, http: int = 0) -> None:
        self.stop = stop
        self.http = http
        super().__init__(message)


async def ask(client: StripeClient, call: Awaitable[Made], permission: str) -> Made:
    """The call's result. StripeFault otherwise; ``permission`` is what a restricted key needs for it, such as
    ``Meters: Read``."""
    try:
        return await call
    except stripe.StripeError as error:
        raise StripeFault(
            sentence(client, error, permission), stop=is_stop(error), http=error.http_status or 0
        ) from None
    except Exception as error:  # the package trips over JSON that is no object, in several ways
        raise StripeFault(f"Stripe's answer cannot be read ({type(error).__name__})") from error


def is_stop(error: stripe.StripeError) -> bool:
    """Whether Stripe itself refused the key; a proxy's 403 in HTML is not Stripe."""
    return error.http_status in (401, 403) and bool(body_of(error))


def body_of(error: stripe.StripeError) -> Mapping[str, Any]:
    """Stripe's own ``error`` object; empty when the answer was not Stripe's."""
    found = error.json_body.get("error") if isinstance(error.json_body, dict) else None
    return found if isinstance(found, dict) else {}


def headers_of(error: stripe.StripeError) -> Mapping[str, str]:
    """The reply's fields; of a body that is no JSON the package hands them over as ``json_body``."""
    if error.headers:
        return error.headers
    return error.json_body if isinstance(error.json_body, Mapping) and not isinstance(error.json_body, dict) else {}


def message_of(error: stripe.StripeError) -> str:
    return str(body_of(error).get("message") or error.user_message or type(error).__name__)


def sentence(client: StripeClient, error: stripe.StripeError, permission: str) -> str:
    """What happened and, where that is known, what to do about it. Holds no secret."""
    if error.http_status == 401 and is_stop(error):
        return WRONG_KEY
    if error.http_status == 403 and is_stop(error):
        return f"the API key lacks a permission: {missing(message_of(error), permission)}; grant it at Stripe"
    if isinstance(error, stripe.APIConnectionError):
        return f"Stripe at {client.api} cannot be reached: {type(error.__cause__ or error).__name__}"
    if not body_of(error):
        return f"the answer from {client.api} is not Stripe's (status {error.http_status or 0})"
    return f"Stripe says {error.http_status}: {client.hide(message_of(error))}"


def missing(message: str, permission: str) -> str:
    """The permission as the dashboard names it, and as Stripe's message does: ``Meters: Read (rak_meters_read)``."""
    named = re.search(r"\brak_\w+", message)
    return f"{permission} ({named[0]})" if named else permission
