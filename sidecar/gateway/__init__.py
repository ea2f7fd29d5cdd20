"""The client's side of the lane: connections, the journey of a request, the hand-over of our own paths to aiohttp.

``exchange`` holds the journey on one screen. It is plain synchronous calls while the key is cached, the budget is in
process and an idle upstream connection exists; only a miss starts a task.
"""

from sidecar.gateway.access import AccessLog, AccessWriter
from sidecar.gateway.accounts import Account
from sidecar.gateway.client import ClientConnection
from sidecar.gateway.lane import JournalUse, Lane, LaneReading
from sidecar.gateway.routes import Router
from sidecar.gateway.rules import Rules
from sidecar.gateway.server import LaneRunner

__all__ = [
    "AccessLog",
    "AccessWriter",
    "Account",
    "ClientConnection",
    "JournalUse",
    "Lane",
    "LaneReading",
    "LaneRunner",
    "Router",
    "Rules",
]
