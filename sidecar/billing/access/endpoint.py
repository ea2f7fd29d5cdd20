"""The two pages of payment on the public port: where Stripe posts, and where a new customer sees the first key."""

import asyncio
import html
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qs

from aiohttp import ClientError, web

from sidecar.billing.access.newcomers import SESSION, SHOWN_FOR_S, TOKEN, Newcomers, Welcome
from sidecar.billing.access.webhooks import MOST_BODY, Malformed, verified
from sidecar.billing.stripe import StripeFault
from sidecar.core.accounts import Arrival
from sidecar.core.clock import Clock
from sidecar.core.errors import StoreError
from sidecar.core.problems import Problem

WEBHOOK, WELCOME = "/_sidecar/webhooks/stripe", "/_sidecar/welcome"
COOKIE = "sidecar_welcome"
TOKEN_BYTES = 24  # 32 characters
AT_ONCE = 32  # deliveries, so that at most 16 MiB of them are held
READ_S = 10
MOST_FORM = 4096  # bytes
WELCOMES = 4  # readings of sessions at once
log = logging.getLogger("sidecar.billing")


class WebhookEndpoint:
    """Verifies, writes down and answers; nothing else happens before the answer."""

    def __init__(
        self,
        receive: Callable[[Arrival], Awaitable[bool]],
        secrets: Sequence[str],
        clock: Clock,
        counts: dict[str, int],
        arrived: Callable[[], None],
    ) -> None:
        self._receive = receive
        self._secrets = secrets
        self._clock = clock
        self._counts = counts
        self._arrived = arrived
        self._held = 0

    async def answer(self, request: web.Request) -> web.Response:
        """200 when it is written down (or was before), 400 when it is malformed, 503 when it is to be sent again."""
        if self._held >= AT_ONCE:
            return self._said("busy", 503, "too many deliveries at once")
        self._held += 1
        try:
            body = await _read(request)
            signature = ",".join(request.headers.getall("Stripe-Signature", []))
            arrival = verified(body, signature, self._secrets, self._clock.wall_ns())
            new = await self._receive(arrival)
        except Malformed as fault:
            return self._said(fault.reason, 400, str(fault))
        except StoreError as error:
            log.error("a webhook could not be written down: %s", error)
            return self._said("store_failed", 503, "it cannot be written down now")
        finally:
            self._held -= 1
        self._arrived()
        return self._said("stored" if new else "known", 200, "")

    def _said(self, result: str, status: int, detail: str) -> web.Response:
        self._counts[result] = self._counts.get(result, 0) + 1
        if status == 200:
            return web.Response(text="ok\n")
        code, title = ("webhook_malformed", "The delivery cannot be used") if status == 400 else ("busy", "Try again")
        document = Problem(status, code, title, detail, f"urn:sidecar:webhook:{code}")
        headers = {"Retry-After": "5"} if status == 503 else {}
        return web.Response(
            body=document.body(), status=status, content_type="application/problem+json", headers=headers
        )


async def _read(request: web.Request, most: int = MOST_BODY) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(READ_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise Malformed("too_large", f"the body is larger than {most // 1024} KiB")
    except TimeoutError:
        raise Malformed("too_slow", f"the body took more than {READ_S} s") from None
    except (ClientError, OSError, web.HTTPException):
        raise Malformed("cut", "the body ended too early") from None
    return body


class WelcomePage:
    """A button first: a preview of the link, or a browser that loads it ahead, must not use up the one time. With it
    the browser gets a token, in the form, and in a cookie for when it goes back, by which it is known when it asks
    again."""

    def __init__(self, newcomers: Newcomers, secure: Callable[[], bool]) -> None:
        """``secure``: whether the public sees this page by https."""
        self._newcomers = newcomers
        self._secure = secure
        self._asking = 0

    async def ask(self, request: web.Request) -> web.Response:
        """The page with the button."""
        return self._button(request, request.query.get("session_id", ""))

    def _button(self, request: web.Request, session: str) -> web.Response:
        if SESSION.fullmatch(session) is None:
            return _page("This address is not complete.", 404)
        token = request.cookies.get(COOKIE, "")
        if TOKEN.fullmatch(token) is None:
            token = secrets.token_urlsafe(TOKEN_BYTES)
        page = _page(_BUTTON.format(session=session, token=token))
        known = f"{COOKIE}={token}; Max-Age={SHOWN_FOR_S}; HttpOnly; SameSite=Lax"  # for this path, behind any prefix
        page.headers["Set-Cookie"] = known + ("; Secure" if self._secure() else "")
        return page

    async def show(self, request: web.Request) -> web.Response:
        """The key, to the first browser that asks; to the same one again until it was there to be read for a while."""
        if self._asking >= WELCOMES:
            return _page("Too many people ask at once. Go back and try again.", 503)
        self._asking += 1
        try:
            form = parse_qs((await _read(request, MOST_FORM)).decode("latin-1"), max_num_fields=10)
            session, token = (form.get(name, [""])[0] for name in ("session_id", "token"))
            if TOKEN.fullmatch(token) is None:
                return self._button(request, session)
            return self._welcome(await self._newcomers.first_key(session, token))
        except (Malformed, ValueError):
            return _page(_TEXTS["unknown"], 400)
        except (StripeFault, StoreError) as error:
            log.warning("the welcome page could not be made: %s", error)
            return _page("This cannot be shown now. Go back and try again in a minute.", 503)
        finally:
            self._asking -= 1

    def _welcome(self, found: Welcome) -> web.Response:
        if found.state != "key":
            return _page(_TEXTS[found.state], 404 if found.state == "unknown" else 200)
        text = (
            f"Your API key. Copy it now: soon it cannot be shown again. <pre>{html.escape(found.key)}</pre>"
            f"Send it as <code>X-API-Key</code>. Your account is <code>{html.escape(found.tenant)}</code>."
        )

        async def written() -> None:
            try:
                await self._newcomers.shown(found.tenant)
            except StoreError as error:
                log.warning("the first key of %s can be asked for again: %s", found.tenant, error)

        return _Told(written, text=_document(text), content_type="text/html")


class _Told(web.Response):
    """Somebody is told when all of it was given to the connection."""

    def __init__(self, written: Callable[[], Awaitable[None]], *, text: str, content_type: str) -> None:
        super().__init__(text=text, content_type=content_type)
        self._told = written

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        await self._told()


_BUTTON = (
    'Thank you. Your API key is shown once. Have a safe place ready for it.<form method="post">'
    '<input type="hidden" name="session_id" value="{session}"><input type="hidden" name="token" value="{token}">'
    "<button>Show my API key</button></form>"
)
_TEXTS = {
    "shown": "Your account is ready. Its key was shown before and cannot be shown again; ask for another one.",
    "pending": "Your payment is on its way. Reload this page when it has arrived.",
    "unknown": "This checkout is not known here, or it is too long ago.",
}


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=_document(text), status=status, content_type="text/html")


def _document(text: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="robots" content="noindex">'
        f"<title>Welcome</title><main>{text}</main></html>\n"
    )
