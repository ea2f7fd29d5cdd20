"""Telling people: what happened to accounts and quotas, by signed webhook and by e-mail."""

from sidecar.billing.notices.mail import mail_of
from sidecar.billing.notices.sender import NoticeSender
from sidecar.billing.notices.service import NoticeService
from sidecar.billing.notices.texts import KINDS, example
from sidecar.billing.notices.thresholds import ThresholdTeller
from sidecar.billing.notices.webhook import request_of

__all__ = ["KINDS", "NoticeSender", "NoticeService", "ThresholdTeller", "example", "mail_of", "request_of"]
