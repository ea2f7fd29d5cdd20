"""The access log: what happened to each call, as a line of JSON.

``log`` notes it on the lane in one tuple, ``lines`` makes the text without secrets, ``writer`` writes it in a thread of
its own, so that a slow disk slows no call.
"""

from sidecar.gateway.access.log import AccessLog
from sidecar.gateway.access.writer import AccessWriter

__all__ = ["AccessLog", "AccessWriter"]
