"""Sends what is to be told, each by its channel, again and again for about two days, and then gives it up.

One attempt at a time, at most 20 s each. A notice that was taken and whose answer was lost goes out again under the
same id.
"""

import asyncio
import logging
from collections.abc import MutableMapping

import aiohttp
import aiosmtplib

from sidecar.billing.notices.mail import mail_of
from sidecar.billing.notices.webhook import request_of
from sidecar.core.accounts import Notice
from sidecar.core.billing_settings import Mail, Notices
from sidecar.core.billing_store import Inbox
from sidecar.core.clock import NS_PER_S, Clock

TIMEOUT_S = 20
BATCH = 50
# Before each further attempt: 5 s, 1 min, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h; ten attempts in all.
WAITS_S = (5, 60, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000)
log = logging.getLogger("sidecar.billing")


class NoticeSender:
    """One per process; ``close`` it. ``counts``: (channel, result) to a number;
    ``inbox`` None: ``send`` alone is used."""

    def __init__(
        self, inbox: Inbox | None, settings: Notices, clock: Clock, counts: MutableMapping[tuple[str, str], int]
    ) -> None:
        self._inbox = inbox
        self._settings = settings
        self._clock = clock
        self._counts = counts
        self._session: aiohttp.ClientSession | None = None

    async def work_off(self) -> None:
        """Everything that is due now. StoreError."""
        while self._inbox is not None and (
            due := await self._inbox.due_notices(at_ns=self._clock.wall_ns(), limit=BATCH)
        ):
            for notice in due:
                await self._one(notice, self._inbox)

    async def send(self, notice: Notice) -> str:
        """One attempt: empty when it was taken, else why not, without a secret."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if notice.channel == "webhook" and self._settings.webhook is not None:
                    return await self._post(notice, self._settings.webhook, self._settings.secret or "")
                if notice.channel == "email" and self._settings.mail is not None:
                    return await self._mail(notice, self._settings.mail)
                return "not configured"
        except TimeoutError:
            return f"no answer in {TIMEOUT_S} s"
        except aiosmtplib.SMTPResponseException as error:
            return f"{type(error).__name__} {error.code}"  # 451 passes, 535 is the password: its text may quote either
        except (aiohttp.ClientError, aiosmtplib.SMTPException, OSError, ValueError) as error:
            return type(error).__name__  # its text may quote a URL or an address

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def _one(self, notice: Notice, inbox: Inbox) -> None:
        note = await self.send(notice)
        now = self._clock.wall_ns()
        final = note in ("", "not configured") or notice.attempts >= len(WAITS_S)
        result = "sent" if not note else "given_up" if final else "failed"
        if note:
            log.warning("notice %s by %s: %s (%s)", notice.kind, notice.channel, note, result)
        self._counts[notice.channel, result] = self._counts.get((notice.channel, result), 0) + 1
        next_ns = now if final else now + WAITS_S[notice.attempts] * NS_PER_S
        await inbox.settle_notice(notice.id, notice.channel, done=final, at_ns=now, next_ns=next_ns, note=note)

    async def _post(self, notice: Notice, url: str, secret: str) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        headers, body = request_of(notice, secret, self._clock.wall_ns())
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as reply:
            return "" if 200 <= reply.status < 300 else f"status {reply.status}"

    async def _mail(self, notice: Notice, mail: Mail) -> str:
        await aiosmtplib.send(
            mail_of(notice, mail),
            hostname=mail.host,
            port=mail.port,
            username=mail.user,
            password=mail.password,
            use_tls=mail.security == "tls",
            start_tls=mail.security == "starttls",
            timeout=TIMEOUT_S,
        )
        return ""
