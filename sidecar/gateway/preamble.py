"""The PROXY protocol (haproxy.org, proxy-protocol.txt, versions 1 and 2): what a proxy says before the client's bytes.

Pure: bytes in, the client's address out. Strict: what is not exactly the protocol ends the connection, because whoever
guesses can be lied to.
"""

import ipaddress
import re
from typing import Final

SHORTEST: Final = 15  # "PROXY UNKNOWN" and its CRLF; version 2 has 16 bytes before its length is known
LONGEST_LINE: Final = 107  # bytes of version 1, CRLF included
LONGEST: Final = 4096  # bytes of version 2 after its first 16: addresses, and TLVs of certificates
SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_WORD: Final = b"PROXY "
_ADDRESS: Final = rb"([0-9A-Fa-f:.]{2,45})"
_PORT: Final = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(rb"PROXY (TCP4|TCP6) %b %b %b %b\r\n" % (_ADDRESS, _ADDRESS, _PORT, _PORT))
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?\r\n")
# Bytes of both addresses by family and transport; 0x00: not said, 0x11 and 0x21: TCP, 0x31: a Unix stream.
_SIZES: Final = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}
_CHECKSUM: Final = 0x03


class BadPreamble(ValueError):
    """What came is not the PROXY protocol."""


def may_begin(data: bytes) -> bool:
    """Whether ``data`` can be the first bytes of either version."""
    return SIGNATURE.startswith(data[:12]) or _WORD.startswith(data[:6])


def read_line(line: bytes) -> str | None:
    """Version 1, CRLF included: the client's address, None where the proxy does not know it. BadPreamble."""
    if _UNKNOWN.fullmatch(line) is not None:
        return None
    match = _LINE.fullmatch(line)
    if match is None or int(match[4]) > 65535 or int(match[5]) > 65535:
        raise BadPreamble("the line of the PROXY protocol is malformed")
    kind = ipaddress.IPv4Address if match[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = kind(match[2].decode()), kind(match[3].decode())
    except ValueError:
        raise BadPreamble("the PROXY protocol names what is no address") from None
    return str(source)


def length_of(head: bytes) -> int:
    """How much follows the first 16 bytes of version 2. BadPreamble."""
    if not head.startswith(SIGNATURE) or head[12] >> 4 != 2 or head[12] & 0x0F > 1:
        raise BadPreamble("the PROXY protocol has a version or a command that does not exist")
    length = int.from_bytes(head[14:16], "big")
    if length > LONGEST:
        raise BadPreamble(f"the PROXY protocol says {length} bytes, more than {LONGEST}")
    return length


def read_block(head: bytes, block: bytes) -> str | None:
    """Version 2: the client's address; None for a proxy's own connection and where it does not say. BadPreamble."""
    if head[12] & 0x0F == 0:
        return None  # LOCAL: a check of the proxy's own
    family = head[13]
    size = _SIZES.get(family)
    if size is None or len(block) < size:
        raise BadPreamble("the PROXY protocol has a family that is not TCP, or too few bytes for it")
    _check_rest(head, block, size)
    if family == 0x11:
        return str(ipaddress.IPv4Address(block[:4]))
    if family == 0x21:
        return str(ipaddress.IPv6Address(block[:16]))
    return None


def _check_rest(head: bytes, block: bytes, at: int) -> None:
    """What follows the addresses is type, length and value, again and again; a checksum must be right."""
    while at < len(block):
        end = at + 3 + int.from_bytes(block[at + 1 : at + 3], "big")
        if at + 3 > len(block) or end > len(block):
            raise BadPreamble("the PROXY protocol has a value that is cut short")
        if block[at] == _CHECKSUM:
            zeroed = head + block[: at + 3] + bytes(end - at - 3) + block[end:]
            if block[at + 3 : end] != _crc32c(zeroed).to_bytes(4, "big"):
                raise BadPreamble("the checksum of the PROXY protocol is wrong")
        at = end


def _table() -> list[int]:
    made = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        made.append(number)
    return made


_CASTAGNOLI: Final = _table()


def _crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720, B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CASTAGNOLI[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
