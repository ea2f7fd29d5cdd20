"""A notice as an e-mail."""

import hashlib
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from sidecar.billing.notices.texts import text_of
from sidecar.core.accounts import Notice
from sidecar.core.billing_settings import Mail
from sidecar.core.clock import NS_PER_S


def mail_of(notice: Notice, mail: Mail) -> EmailMessage:
    """The message; its id stays the same over all attempts."""
    subject, text = text_of(notice)
    message = EmailMessage()
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.to)
    message["Subject"] = "".join(letter for letter in f"[sidecar] {subject}" if letter.isprintable())[:200]
    message["Date"] = format_datetime(datetime.fromtimestamp(notice.at_ns // NS_PER_S, UTC))
    digest = hashlib.sha256(notice.id.encode("utf-8", "replace")).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{mail.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message
