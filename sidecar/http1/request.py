"""The request head: from parsed fields to what may cross."""

import re
from collections.abc import Iterable
from typing import Any, Final

# A comma may stand in a name (RFC 3986, 3.2.2), but never does: two hosts in one field have one.
_PORT = rb"(?:[0-5]?[0-9]{0,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%%-]+|\[[0-9A-Fa-f:.]+\])(?::%b)?" % _PORT)
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")

# One object for each of these methods: who compares it with that of another request reads no bytes.
_METHODS: Final = {name: name for name in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE")}
# A request line as almost every client sends it; anything else takes llhttp's way: an absolute target replaces Host,
# and OPTIONS reads Max-Forwards, so neither may share a block.
_PLAIN_LINE: Final = re.compile(rb"(%b) (/[!-\"$-~]*) HTTP/1\.1" % b"|".join(_METHODS))
_MEMORY = 1024  # header blocks remembered per reader
_MEMORY_BLOCK = 4096  # bytes; a longer block is not remembered: at most 8 MiB with what was read of it

Field = tuple[bytes, bytes]

# What each special field is to the reader. Fields that are not here cross untouched.
_DROP, _HOST_F, _CONNECTION, _LENGTH, _CODING, _KEY, _AUTH, _EXPECT, _UPGRADE, _XFF, _FORWARDED, _VIA, _HOPS, _TE = (
    range(14)
)

_SPECIAL = {
    b"host": _HOST_F,
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"authorization": _AUTH,
    b"expect": _EXPECT,
    b"upgrade": _UPGRADE,
    b"x-forwarded-for": _XFF,
    b"x-forwarded-proto": _DROP,
    b"x-forwarded-host": _DROP,
    b"x-forwarded-port": _DROP,
    b"x-real-ip": _DROP,
    b"forwarded": _FORWARDED,
    b"via": _VIA,
    b"max-forwards": _HOPS,
    b"te": _TE,
    b"trailer": _DROP,  # request trailers are dropped (RFC 9110, 6.5.1), so they are not announced either
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"proxy-authenticate": _DROP,
    b"proxy-authorization": _DROP,
    b"http2-settings": _DROP,
}
IDENTITY_FIELDS = (b"x-tenant-id", b"x-key-id", b"x-plan", b"x-request-id")


class Malformed(Exception):
    """The request cannot be served as HTTP. ``code`` is a code of ``core.problems``."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(detail)


class RequestHead:
    """A request head that may be routed. All texts are bytes as received; ``forward`` are the fields that cross.

    ``target`` is in origin form (or ``*``), byte for byte. ``length`` is the body's Content-Length, None without one;
    ``chunked`` says that the body is chunked. ``upgrade`` is what Upgrade asked for, lower case;
    ``websocket`` says that this is passed on, the only one that ever is. ``hops`` is Max-Forwards. ``kept`` is what the
    reader's owner made of the header block. ``ends_here``: Connection names Authorization, which so does not cross.
    ``forwarded_for`` and ``forwarded`` are what the client claimed, believed only of trusted proxies.
    """

    # No slots: the defaults of the class are what most requests keep, so that only differences are written.
    target: bytes = b""
    path: bytes = b""
    query: bytes = b""
    host: bytes = b""
    forward: bytes = b""
    api_keys: tuple[bytes, ...] = ()
    authorizations: tuple[bytes, ...] = ()
    ends_here: bool = False
    vias: tuple[bytes, ...] = ()
    forwarded_for: tuple[bytes, ...] = ()
    forwarded: tuple[bytes, ...] = ()
    length: int | None = None
    chunked: bool = False
    expects: bool = False
    close: bool = False
    trailers: bool = False
    upgrade: bytes | None = None
    websocket: bool = False
    hops: int | None = None
    kept: Any = None

    def __init__(self, method: bytes, version: bytes, raw_fields: list[Field]) -> None:
        self.method = _METHODS.get(method, method)
        self.version = version
        self.raw_fields = raw_fields

    def with_line(self, method: bytes, target: bytes) -> "RequestHead":
        """The same plain header block (see ``learn``) under another request line, whose target is a path."""
        head = RequestHead(method, self.version, self.raw_fields)
        head.host = self.host
        head.forward = self.forward
        head.api_keys = self.api_keys
        head.authorizations = self.authorizations
        head.ends_here = self.ends_here
        head.vias = self.vias
        head.forwarded_for = self.forwarded_for
        head.forwarded = self.forwarded
        head.kept = self.kept
        head.target = target
        head.path, _, head.query = target.partition(b"?")
        return head

    def field(self, name: bytes) -> bytes | None:
        """The first value of the field, by lower-case name; None without one."""
        for raw, value in self.raw_fields:
            if raw.lower() == name:
                return value
        return None

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head."""
        return self.chunked or bool(self.length)


class RequestReader:
    """Reads heads for one set of settings: which field carries the key, and which names belong to us."""

    __slots__ = ("_memory", "_special")

    def __init__(self, key_header: str, own_fields: Iterable[str] = ()) -> None:
        self._memory: dict[bytes, RequestHead] = {}
        self._special = dict(_SPECIAL)
        for name in (*IDENTITY_FIELDS, *(own.lower().encode() for own in own_fields)):
            self._special[name] = _DROP
        self._special[key_header.lower().encode()] = _KEY

    def read(self, method: bytes, target: bytes, version: bytes, fields: list[Field]) -> RequestHead:
        """The head, or Malformed. ``version`` is ``1.1`` or ``1.0``; other versions are refused (RFC 9110, 15.6.6)."""
        head = RequestHead(method, version, fields)
        if version != b"1.1":
            _old_version(head)
        # What Connection names is hop by hop and goes too, but only from what the client sent: naming one of our own
        # fields deletes nothing of ours, since those are added later.
        named = _named(fields)
        head.forward = b"".join(self._scan(head, fields, named))
        head.ends_here = b"authorization" in named
        if len(head.vias) > 64:
            raise Malformed("loop_detected", "the request passed more than 64 proxies")
        _read_target(head, target)
        if version == b"1.0" and head.chunked:
            raise Malformed("bad_request", "HTTP/1.0 has no transfer codings (RFC 9112, 6.1)")
        if method == b"TRACE" and head.has_body:
            raise Malformed("bad_request", "TRACE has no body (RFC 9110, 9.3.8)")
        if head.upgrade is not None:
            _read_upgrade(head, fields)
        return head

    def learn(self, data: bytes, head: RequestHead) -> None:
        """Remembers the header block of a request without a body that was ``data`` exactly and was read as ``head``.

        Clients repeat their header block on a connection while the request line changes, so a block that llhttp and
        this reader have accepted once need not be read again.
        """
        start = data.find(b"\r\n") + 2
        if start < 16 or len(data) - start > _MEMORY_BLOCK or not _is_plain(head):
            return
        if _PLAIN_LINE.fullmatch(data, 0, start - 2) is None:
            return
        if len(self._memory) >= _MEMORY:
            self._memory.clear()
        self._memory[data[start:]] = head

    def recall(self, data: bytes) -> RequestHead | None:
        """The head of ``data`` when it is one whole request with a remembered header block, else None."""
        end = data.find(b"\r\n")
        known = self._memory.get(data[end + 2 :])
        if known is None:
            return None
        match = _PLAIN_LINE.fullmatch(data, 0, end)
        if match is None:
            return None
        method, target = match.groups()
        if method == known.method and target == known.target:
            return known
        return known.with_line(method, target)

    def _scan(self, head: RequestHead, fields: list[Field], named: frozenset[bytes]) -> list[bytes]:
        special, kept, host = self._special, [], None
        for name, value in fields:
            low = name.lower()
            kind = special.get(low)
            if kind is None:
                if (b"_" in low and low.replace(b"_", b"-") in special) or low in named:
                    continue  # WSGI and CGI fold "_" and "-" into one
                kept.append(b"%b: %b\r\n" % (name, value))
            elif kind == _HOST_F:
                value = value.strip(b" \t")
                if host is not None:
                    raise Malformed("bad_request", "more than one Host field (RFC 9112, 3.2)")
                host = value
            elif kind == _CONNECTION:
                head.close = head.close or b"close" in _options(value)
            elif kind == _HOPS and head.method not in (b"TRACE", b"OPTIONS"):
                if low not in named:
                    kept.append(b"%b: %b\r\n" % (name, value))
            elif kind != _DROP:
                _read_special(head, kind, value.strip(b" \t"))  # llhttp leaves what stands behind (RFC 9110, 5.5)
        if host is not None:
            if _HOST.fullmatch(host) is None:
                raise Malformed("bad_request", "the Host field is not a host (RFC 9112, 3.2)")
            head.host = host
        elif head.version == b"1.1":
            raise Malformed("bad_request", "the Host field is missing (RFC 9112, 3.2)")
        return kept


def _is_plain(head: RequestHead) -> bool:
    """Whether the head says nothing beyond its fields: no body, no expectation, no upgrade, not the last request."""
    return (
        head.version == b"1.1"
        and head.length is None
        and head.hops is None
        and head.upgrade is None
        and not (head.chunked or head.expects or head.close or head.trailers)
        and head.target[:1] == b"/"
    )


def _old_version(head: RequestHead) -> None:
    if head.version != b"1.0":
        raise Malformed("version_not_supported", "the version of HTTP spoken here is 1.1, and 1.0 is understood")
    head.close = True  # RFC 9112, 9.3: a proxy keeps no persistent connection to an HTTP/1.0 client


def _named(fields: list[Field]) -> frozenset[bytes]:
    """What the Connection fields name beyond their own options."""
    named: frozenset[bytes] = frozenset()
    for name, value in fields:
        if len(name) == 10 and name.lower() == b"connection":
            named |= _options(value) - {b"close", b"keep-alive", b"upgrade", b"te", b""}
    return named


def _options(value: bytes) -> frozenset[bytes]:
    return frozenset(option.strip(b" \t").lower() for option in value.split(b","))


def _read_special(head: RequestHead, kind: int, value: bytes) -> None:
    if kind == _LENGTH:
        if not value.isdigit() or len(value) > 18 or head.length is not None:
            raise Malformed("bad_request", "the Content-Length is not one number (RFC 9112, 6.3)")
        head.length = int(value)
    elif kind == _CODING:
        if value.lower() != b"chunked":
            raise Malformed("not_implemented", "the only transfer coding is chunked (RFC 9112, 6.1)")
        head.chunked = True
    elif kind == _KEY:
        head.api_keys += (value,)
    elif kind == _AUTH:
        head.authorizations += (value,)
    elif kind == _EXPECT:
        if head.version == b"1.1":
            if value.lower() != b"100-continue":
                raise Malformed("expectation_failed", "the only expectation is 100-continue (RFC 9110, 10.1.1)")
            head.expects = True
    elif kind == _UPGRADE:
        head.upgrade = value.lower() if head.upgrade is None else head.upgrade + b"," + value.lower()
    elif kind == _XFF:
        head.forwarded_for += (value,)
    elif kind == _FORWARDED:
        head.forwarded += (value,)
    elif kind == _VIA:
        head.vias += (value,)
    elif kind == _TE:
        head.trailers = head.trailers or b"trailers" in _options(value)
    elif kind == _HOPS:
        if not value.isdigit() or len(value) > 9 or head.hops is not None:
            raise Malformed("bad_request", "Max-Forwards is not one number (RFC 9110, 7.6.2)")
        head.hops = int(value)


def _read_upgrade(head: RequestHead, fields: list[Field]) -> None:
    """WebSocket on a GET is passed on; every other Upgrade, h2c above all, is as if it had not been sent."""
    assert head.upgrade is not None
    if head.method != b"GET" or head.version != b"1.1" or b"websocket" not in _options(head.upgrade):
        return
    # RFC 9110, 7.8: an Upgrade that Connection does not name was meant for somebody else.
    if not any(b"upgrade" in _options(value) for name, value in fields if name.lower() == b"connection"):
        return
    if head.has_body:
        raise Malformed("bad_request", "a request for a WebSocket has no body (RFC 6455, 4.1)")
    head.websocket = True


def _read_target(head: RequestHead, target: bytes) -> None:
    if target[:1] != b"/":
        target = _other_form(head, target)
    if b"#" in target:
        raise Malformed("bad_request", "a request target has no fragment (RFC 9112, 3.2)")
    head.target = target
    head.path, _, head.query = target.partition(b"?")


def _other_form(head: RequestHead, target: bytes) -> bytes:
    if target == b"*" and head.method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not match[1] or b"@" in match[1] or _HOST.fullmatch(match[1]) is None:
        raise Malformed("bad_request", "the request target is not a path (RFC 9112, 3.2)")
    head.host = match[1]  # RFC 9112, 3.2.2: the target's authority replaces Host
    rest = match[2]
    if not rest and head.method == b"OPTIONS":
        return b"*"  # RFC 9112, 3.2.4
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    return rest
