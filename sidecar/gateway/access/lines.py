"""A note as a line of JSON, without what is secret.

Keys, tokens and passwords end up in queries against all advice. So the value of every parameter whose name sounds like
one is left out, and so is everything that looks like one of our keys or like a JWT, wherever it stands.
"""

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from sidecar.gateway.access.log import Note

_MOST = 2048  # bytes of a text that the client chose
_HIDDEN = b"***"
_SECRET_NAME = re.compile(
    rb"(?:(?i:.*[._-])|.*[a-z0-9](?=[A-Z]))?"  # as a word of its own: after a sign, or a capital behind a small letter
    rb"(?i:access|auth|bearer|client|id|private|refresh|session)?"
    rb"(?i:x?api[._-]?key|key|token|secret|password|passwd|pwd|signature|sig|auth|authorization|jwt|session|sessionid|"
    rb"sid|credential|credentials|code|otp)"
)
_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class Lines:
    """Makes lines. ``brand`` is that of our keys, ``query``: the parameter that carries one, if any."""

    def __init__(self, brand: str, query: str | None) -> None:
        self._key = re.compile(rb"(?i)%b_(?:live|test)_[0-9A-Za-z%%]+" % re.escape(brand.encode()))
        self._query = None if query is None else query.encode().lower()

    def line(self, note: Note) -> bytes:
        """One line with its end; the fields are docs/access-log.md's."""
        tenant, key, plan = note.principal
        agent = next((value for name, value in note.fields if name.lower() == b"user-agent"), b"")
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(note.wall_us / 1e6, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "id": note.event_id.decode(),
            "ip": note.ip,
            "protocol": f"HTTP/{note.version.decode('latin-1')}",
            "method": _text(note.method),
            "host": _text(self._hide(note.host)),
            "target": _text(self.target(note.target)),
            "status": note.status,
            "outcome": note.outcome.decode(),
            "bytes_in": note.bytes_in,
            "bytes_out": note.bytes_out,
            "total_ms": note.total_us / 1000,
            "user_agent": _text(self._hide(agent)),
        }
        if note.code:
            entry["code"] = note.code
        if note.route:
            entry["route"] = note.route
        if tenant:
            entry |= {"tenant": tenant, "key": key, "plan": plan}
        if note.upstream:
            entry["upstream"] = note.upstream
            entry["upstream_ms"] = note.upstream_us / 1000
            entry["first_byte_ms"] = note.first_byte_us / 1000
        return json.dumps(entry, separators=(",", ":")).encode() + b"\n"

    def target(self, target: bytes) -> bytes:
        """A request's target with secret values replaced by ``***``; the rest byte for byte."""
        path, mark, query = target.partition(b"?")
        if mark:
            path += b"?" + b"&".join(map(self._parameter, query.split(b"&")))
        return self._hide(path)

    def _parameter(self, text: bytes) -> bytes:
        name, equals, value = text.partition(b"=")
        plain = unquote_to_bytes(name)
        secret = plain.lower() == self._query or _SECRET_NAME.fullmatch(plain) is not None
        return name + equals + _HIDDEN if secret and value else text

    def _hide(self, text: bytes) -> bytes:
        return _JWT.sub(_HIDDEN, self._key.sub(_HIDDEN, text))


def _text(value: bytes) -> str:
    return value[:_MOST].decode("utf-8", "backslashreplace")
