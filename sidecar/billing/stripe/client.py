"""Stripe's official client, with the defaults that a sender of money needs.

No retries of its own (the sender decides, and keeps the identifier), an explicit timeout, a pinned API version, no
telemetry (the package would leave a file in the home folder), no redirects, and a transport whose every failure on the
wire is an ``APIConnectionError``: the package's own reads the body outside of its ``try``, so that a connection that is
cut after the reply's head, the case of an event that was taken, would come out as a bare aiohttp error.
"""

import logging
from collections.abc import Mapping
from typing import Any

import aiohttp
import stripe

from sidecar.core.billing_settings import StripeSettings
from sidecar.core.clock import NS_PER_S

API_VERSION = "2026-10-28.endive"
DEFAULT_API = "https://api.stripe.com"
MOST_BODY = 16 * 1024**2  # bytes of one reply; a page of a hundred prices with their tiers is far below
MOST_TEXT = 500  # characters of a reply's message that are kept

stripe.enable_telemetry = False  # before the first request: afterwards the file is there already
logging.getLogger("stripe").setLevel(logging.WARNING)  # at INFO it writes every error's message


class _Transport(stripe.AIOHTTPClient):
    """The package's aiohttp transport with the body's read inside of the ``try``."""

    def _get_request_args_kwargs(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any
    ) -> tuple[tuple[str, str], dict[str, Any]]:
        # The package tells the machine's kind here, and which tools the environment's variables speak of.
        plain = {name: value for name, value in headers.items() if name != "X-Stripe-Client-User-Agent"}
        plain["User-Agent"] = f"sidecar stripe-python/{stripe.VERSION}"
        args, kwargs = super()._get_request_args_kwargs(method, url, plain, post_data)
        # A redirected POST would become a GET, and its 200 would look like a taken event.
        return args, {**kwargs, "allow_redirects": False}

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        args, kwargs = self._get_request_args_kwargs(method, url, headers, post_data)
        try:
            async with self._session.request(*args, **kwargs) as reply:
                body = b""
                async for chunk in reply.content.iter_any():
                    body += chunk
                    if len(body) > MOST_BODY:
                        raise aiohttp.ClientPayloadError("the reply is too large")
                return body, reply.status, reply.headers
        except Exception as error:  # whatever it is, it happened on the wire; CancelledError passes
            self._handle_request_error(error)


class StripeClient(stripe.StripeClient):
    """The official client (``v1``, ``v2``) for one key; ``close`` it at the end. Its repr holds no secret."""

    def __init__(self, settings: StripeSettings) -> None:
        api = settings.api.rstrip("/")
        self._hidden = settings.api_key
        self._transport = _Transport(timeout=aiohttp.ClientTimeout(total=settings.timeout_ns / NS_PER_S))
        self.api = api
        super().__init__(
            settings.api_key,
            stripe_version=API_VERSION,
            base_addresses={}
            if api == DEFAULT_API
            else {"api": api, "connect": api, "files": api, "meter_events": api},
            max_network_retries=0,
            http_client=self._transport,
        )

    def __repr__(self) -> str:
        return f"StripeClient({self.api!r})"

    @property
    def live(self) -> bool:
        """Whether real money moves: a live key, not one of a sandbox."""
        return "_live_" in self._hidden

    def hide(self, text: str) -> str:
        """``text`` as it may be shown: without the key, on one line, of bounded length."""
        flat = " ".join(text.replace(self._hidden, "***").split())
        return "".join(letter for letter in flat if letter.isprintable())[:MOST_TEXT]

    async def close(self) -> None:
        """Closes the connections; safe to call twice."""
        close: Any = self._transport.close_async  # the package does not type it
        await close()
