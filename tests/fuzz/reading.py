"""What h11 makes of bytes: requests, and replies to requests that are known."""

from dataclasses import dataclass

import h11

_MOST = 1 << 20


@dataclass(frozen=True)
class Asked:
    """A whole request. ``target`` is without scheme and authority."""

    method: bytes
    target: bytes
    body: bytes
    framing: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Said:
    """A whole reply other than 1xx."""

    status: int
    body: bytes
    close: bool


class Broken(Exception):
    """h11 refuses the bytes."""


def next_request(data: bytes) -> tuple[Asked, int] | None:
    """The first request of ``data`` and how many bytes it has; None while it is not whole; Broken."""
    start = 0
    while data.startswith(b"\r\n", start):
        start += 2
    if start == len(data):
        return None
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST)
    message = _next_message(connection, data[start:])
    if message is None:
        return None
    head, body = message
    assert isinstance(head, h11.Request)
    names = (b"content-length", b"transfer-encoding")
    framing = tuple((name, value) for name, value in head.headers if name in names)
    return Asked(head.method, _origin(head.target), body, framing), len(data) - len(connection.trailing_data[0])


def _next_message(
    connection: h11.Connection, data: bytes, *, ended: bool = False
) -> tuple[h11.Request | h11.Response, bytes] | None:
    """The head and the body of the first message of ``data``; None while it is not whole; Broken."""
    head: h11.Request | h11.Response | None = None
    body = b""
    connection.receive_data(data)
    try:
        if ended:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request | h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                return head, body
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return None
    except h11.RemoteProtocolError as error:
        raise Broken(f"{error}: {data[:200]!r}") from None


def requests(data: bytes) -> tuple[list[Asked], bytes, bool]:
    """Every whole request, what is left behind them, and whether h11 refuses that."""
    found: list[Asked] = []
    while data:
        try:
            read = next_request(data)
        except Broken:
            return found, data, True
        if read is None:
            return found, data, False
        found.append(read[0])
        data = data[read[1] :]
    return found, b"", False


def replies(data: bytes, methods: list[bytes], *, ended: bool) -> tuple[list[Said], bytes]:
    """Whole replies to these methods, in order, and what is left; ``ended``: the connection was closed in order."""
    said: list[Said] = []
    for method in methods:
        if not data:
            break
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST)
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
        message = _next_message(connection, data, ended=ended)
        if message is None:
            return said, data
        head, body = message
        assert isinstance(head, h11.Response)
        close = any(n == b"connection" and v.lower() == b"close" for n, v in head.headers)
        said.append(Said(head.status_code, body, close))
        data = connection.trailing_data[0]
    return said, data


def _origin(target: bytes) -> bytes:
    if target[:7].lower() == b"http://" or target[:8].lower() == b"https://":
        rest = target.partition(b"//")[2]
        for at, byte in enumerate(rest):
            if byte in b"/?":
                return rest[at:] if byte == 0x2F else b"/" + rest[at:]
        return b"/"
    return target
