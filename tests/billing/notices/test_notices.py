"""Notices arrive once by each channel, signed and plain to read; failing receivers are tried again, and given up."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiosmtpd.smtp import SMTP
from hypothesis import given
from hypothesis import strategies as st

from sidecar.billing.notices import (
    KINDS,
    NoticeSender,
    NoticeService,
    ThresholdTeller,
    example,
    mail_of,
    request_of,
)
from sidecar.billing.notices.sender import WAITS_S
from sidecar.core.accounts import Notice, PaymentCounts
from sidecar.core.billing_settings import Billing, Mail, Notices
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.crossings import Crossing
from sidecar.core.policy import Quota, Settings, Snapshot
from sidecar.storage import SqliteStore

KEY = b"0123456789012345678901234567"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
MAIL = Mail("127.0.0.1", "sidecar@example.com", ("ops@example.com", "cto@example.com"), security="none")


class Receiver:
    """A webhook's receiver that answers ``statuses`` in turn, then 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 204
        headers = {"Location": "/elsewhere"} if status == 302 else {}
        return web.Response(status=status, headers=headers)


class Mailbox:
    """An SMTP server's memory; ``refuse`` is its answer to a message."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.refuse = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refuse:
            return self.refuse
        self.got.append(envelope)
        return "250 OK"


class Desk:
    def __init__(self, store: SqliteStore, clock: ManualClock, receiver: Receiver, url: str, smtp_port: int) -> None:
        self.store, self.clock, self.receiver = store, clock, receiver
        self.mailbox = Mailbox()
        self.settings = Notices(url, SECRET, Mail(MAIL.host, MAIL.sender, MAIL.to, smtp_port, "none"))
        self.counts: dict[tuple[str, str], int] = {}
        self.sender = NoticeSender(store, self.settings, clock, self.counts)

    async def tell(self, kind: str = "access.read_only") -> None:
        now = self.clock.wall_ns()
        await self.store.notify([example(kind, "acme", channel, now) for channel in self.settings.channels])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock, receiver = ManualClock(wall_ns=1_800_000_000 * NS_PER_S), Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    store = SqliteStore.open(tmp_path / "sidecar.db")
    desks: list[Desk] = []
    smtp = await asyncio.get_running_loop().create_server(
        lambda: SMTP(desks[0].mailbox, hostname="mail.example"), "127.0.0.1", 0
    )
    async with TestServer(app) as server:
        desks += [Desk(store, clock, receiver, str(server.make_url("/hook")), smtp.sockets[0].getsockname()[1])]
        yield desks[0]
        await desks[0].sender.close()
    smtp.close()
    store.close()


async def test_both_channels_once(desk: Desk) -> None:
    await desk.tell()
    await desk.tell()
    await desk.sender.work_off()
    await desk.sender.work_off()
    ((headers, body),) = desk.receiver.got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{mac}"
    assert json.loads(body)["type"] == "access.read_only"
    assert json.loads(body)["data"]["tenant"] == "acme"
    (envelope,) = desk.mailbox.got
    assert envelope.rcpt_tos == ["ops@example.com", "cto@example.com"]
    message = message_from_bytes(envelope.content)
    assert message["Subject"] == "[sidecar] acme is read-only"
    assert "No data is deleted" in str(message.get_payload())
    assert desk.counts == {("webhook", "sent"): 1, ("email", "sent"): 1}


async def test_failing_receivers_are_tried_again_under_the_same_id(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """500, a redirect that is not followed, then taken; the mail server is full for a while."""
    desk.receiver.statuses = [500, 302]
    desk.mailbox.refuse = "452 out of memory"
    await desk.tell()
    for wait_s in (0, *WAITS_S[:2]):
        desk.clock.advance(wait_s)
        await desk.sender.work_off()
    assert len(desk.receiver.got) == 3
    assert len({headers["webhook-id"] for headers, _ in desk.receiver.got}) == 1
    desk.mailbox.refuse = ""
    desk.clock.advance(WAITS_S[2])
    await desk.sender.work_off()
    assert len(desk.mailbox.got) == 1
    assert desk.counts["webhook", "failed"] == 2
    assert desk.counts["email", "failed"] == 3
    assert {"webhook: status 500", "webhook: status 302", "email: SMTPDataError 452"} <= said(caplog)


def said(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Channel and reason of each attempt that failed."""
    return {line.partition(" by ")[2].rpartition(" (")[0] for line in caplog.messages}


async def test_it_is_given_up_in_the_end(desk: Desk) -> None:
    desk.receiver.statuses = [410] * 100
    await desk.tell()
    for wait_s in (0, *WAITS_S, *WAITS_S):
        desk.clock.advance(wait_s)
        await desk.sender.work_off()
    assert len(desk.receiver.got) == len(WAITS_S) + 1
    assert desk.counts["webhook", "given_up"] == 1
    assert await desk.store.due_notices(at_ns=2**62, limit=10) == []


async def test_nobody_listens(desk: Desk) -> None:
    """A refused connection says neither address nor secret."""
    sender = NoticeSender(None, Notices("http://127.0.0.1:1/x?token=secret", SECRET, MAIL), desk.clock, {})
    why = [await sender.send(example("access.grace", "acme", channel, 0)) for channel in ("webhook", "email")]
    assert all(why)
    assert "secret" not in "".join(why)
    await sender.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_whole_sentences(kind: str) -> None:
    message = mail_of(example(kind, "acme", "email", 1_800_000_000 * NS_PER_S), MAIL)
    text = message["Subject"] + message.get_content()
    assert "acme" in text or kind in ("billing.refused", "billing.stopped"), "these two are about no tenant"
    assert "{" not in text
    assert "unknown" not in message["Subject"] or kind == "status.unknown"


@given(st.text(max_size=40), st.text(max_size=20))
def test_words_of_others_add_no_header(status: str, kind: str) -> None:
    """What Stripe says stands in subjects: line ends in it must not begin a header."""
    notice = Notice(status, "email", kind, "acme", {"status": status.encode("utf-8", "replace").decode()}, 0)
    head = mail_of(notice, MAIL).as_bytes().split(b"\n\n")[0]
    assert head.count(b"\nFrom:") + head.startswith(b"From:") == 1
    assert b"\nBcc" not in head
    headers, _ = request_of(notice, SECRET, 0)
    assert all("\n" not in value for value in headers.values())


async def test_a_share_of_a_quota_is_written_down_once_with_its_notices(desk: Desk) -> None:
    """By every channel, on whichever node it was seen; and sent without Stripe."""
    snapshot = Snapshot(Settings(billing=Billing(notices=desk.settings)))
    nodes = [ThresholdTeller(desk.store, lambda: snapshot) for _ in range(2)]
    now_s = desk.clock.wall_ns() // NS_PER_S
    crossing = Crossing("acme", "monthly", now_s, now_s + 2_592_000, 80, 10_000, 8_004, desk.clock.wall_ns())
    quota = Quota("monthly", "requests", 10_000, "month")
    assert [await node.tell(crossing, "pro", quota) for node in nodes] == [True, False]
    service = NoticeService(desk.store, desk.settings, desk.clock, PaymentCounts())
    other = NoticeService(desk.store, desk.settings, desk.clock, PaymentCounts())
    await service.round()
    await other.round()
    await service.round()
    assert len(desk.receiver.got) == len(desk.mailbox.got) == 1
    told = json.loads(desk.receiver.got[0][1])
    assert told["type"] == "quota.threshold"
    assert {name: told["data"][name] for name in ("tenant", "quota", "threshold", "used", "limit")} == {
        "tenant": "acme",
        "quota": "monthly",
        "threshold": 80,
        "used": 8_004,
        "limit": 10_000,
    }
    await service.close()
    await other.close()
