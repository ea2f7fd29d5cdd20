"""The upstream's reply head: what crosses to the client, and how its body is framed."""

from sidecar.http1.request import Field

_DROPPED = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"x-request-id",
        b"proxy-authenticate",
    }
)
_MEMORY = 256
_MEMORY_HEAD = 4096
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer", b"content-encoding"})


class ReplyHead:
    """A reply that may be relayed. ``block`` holds complete field lines in the upstream's order.

    ``length`` is the Content-Length, None without one; ``chunked`` says that the upstream frames by chunks;
    ``close`` that the upstream will not reuse the connection; ``dated`` that it sent a Date. ``private`` are fields
    meant for us, which are not in ``block``.
    """

    __slots__ = ("block", "chunked", "close", "dated", "length", "private", "status", "to_eof")

    def __init__(self, status: int) -> None:
        self.status = status
        self.block = b""
        self.private: list[Field] = []
        self.length: int | None = None
        self.chunked = self.close = self.dated = self.to_eof = False


def read_reply(
    status: int, version: bytes, fields: list[Field], *, head_request: bool, private: frozenset[bytes] = frozenset()
) -> ReplyHead:
    """The reply head, or ValueError with what is wrong with it (the gateway answers 502; RFC 9112, 6.3).

    ``private``: lower-case names of fields that do not cross.
    """
    reply = ReplyHead(status)
    named = frozenset[bytes]()
    lines: list[bytes] = []
    upgrades: list[bytes] = []
    for name, value in fields:
        low = name.lower()
        if low in private:
            reply.private.append((name, value))
        elif low not in _DROPPED:
            lines.append(b"%b: %b\r\n" % (name, value))
            if low == b"date":
                reply.dated = True
        elif low == b"content-length":
            value = value.strip(b" \t")
            if not value.isdigit() or len(value) > 18 or (reply.length is not None and reply.length != int(value)):
                raise ValueError("the upstream's Content-Length is not one number")
            reply.length = int(value)
        elif low == b"transfer-encoding":
            if value.strip(b" \t").lower() != b"chunked" or reply.chunked:
                raise ValueError("the upstream used a transfer coding other than chunked")
            reply.chunked = True
        elif low == b"connection":
            named = named | {option.strip(b" \t").lower() for option in value.split(b",")}
        elif low == b"upgrade" and status == 426:
            upgrades.append(value)
    if named:
        reply.close = b"close" in named
        lines = _without(lines, named - {b"close", b"keep-alive", b"upgrade", b"date"})
    if upgrades:  # RFC 9110, 15.5.22: without it the status would not say what it asks for
        lines.append(b"Upgrade: %b\r\nConnection: Upgrade\r\n" % b", ".join(upgrades))
    reply.block = b"".join(lines)
    if version == b"1.0":
        reply.close = True
        if reply.chunked:
            raise ValueError("the upstream used a transfer coding in HTTP/1.0")
    elif version != b"1.1":
        raise ValueError("the upstream does not speak HTTP/1.1")
    if reply.chunked and reply.length is not None:
        raise ValueError("the upstream sent a length with a transfer coding")
    bodiless = head_request or status in (204, 304) or status < 200
    if bodiless:
        reply.chunked = False  # whatever the head says (RFC 9112, 6.3)
        if status == 204:
            reply.length = None  # many servers say 0, and none may say anything (RFC 9110, 8.6)
    reply.to_eof = not bodiless and not reply.chunked and reply.length is None
    if reply.to_eof:
        reply.close = True
    return reply


def switches_to_websocket(fields: list[Field]) -> bool:
    """Whether the fields of a 101 say that WebSocket, and nothing else, is spoken from here on (RFC 6455, 4.2.2)."""
    upgrades = [value.strip(b" \t").lower() for name, value in fields if name.lower() == b"upgrade"]
    options = b",".join(value for name, value in fields if name.lower() == b"connection").lower().split(b",")
    return upgrades == [b"websocket"] and b"upgrade" in [option.strip(b" \t") for option in options]


def trailer_lines(fields: list[Field], private: frozenset[bytes] = frozenset()) -> bytes:
    """The trailers that may cross: never framing, routing or hop-by-hop fields (RFC 9110, 6.5.1), nor private ones."""
    return b"".join(
        b"%b: %b\r\n" % (name, value)
        for name, value in fields
        if name.lower() not in _DROPPED and name.lower() not in _FRAMING and name.lower() not in private
    )


def _without(lines: list[bytes], named: frozenset[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in named] if named else lines


class ReplyMemory:
    """Remembers reply heads byte for byte: a busy upstream repeats its head within each second of its Date.

    Bound: ``_MEMORY`` heads of at most ``_MEMORY_HEAD`` bytes; then it starts anew.
    """

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, ReplyHead] = {}

    def recall(self, data: bytes) -> tuple[ReplyHead, int] | None:
        """The head that ``data`` begins with and where its body begins, when it is known; not for replies to HEAD."""
        start = data.find(b"\r\n\r\n") + 4
        head = self._heads.get(data[:start])
        return None if head is None else (head, start)

    def learn(self, data: bytes, head: ReplyHead) -> None:
        """Remembers the head that ``data``, the reply to another method than HEAD, began with, framed by a length."""
        start = data.find(b"\r\n\r\n") + 4
        # The status: a 1xx may come first, and is not the head that was read.
        framed = head.length is not None and head.status not in (204, 304) and not head.close
        if 4 < start <= _MEMORY_HEAD and framed and data.startswith(b"HTTP/1.1 %d" % head.status):
            if len(self._heads) >= _MEMORY:
                self._heads.clear()
            self._heads[data[:start]] = head
