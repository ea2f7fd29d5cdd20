"""Random text and checksums in base62, which needs no escaping in a header, a URL, a shell or YAML."""

import secrets
import zlib

ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CHECK_CHARS = 6  # 62**6 > 2**32


def random_text(length: int) -> str:
    """``length`` characters from the system's random source, 5.95 bits each."""
    return "".join(chr(secrets.choice(ALPHABET)) for _ in range(length))


def derived_text(number: int, length: int) -> str:
    """The last ``length`` base62 digits of a number that was drawn at random from many more."""
    digits = bytearray()
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return digits.decode("ascii")


def checksum(text: bytes) -> bytes:
    """CRC-32 of ``text`` in 6 characters."""
    value = zlib.crc32(text)
    digits = bytearray()
    for _ in range(CHECK_CHARS):
        value, digit = divmod(value, 62)
        digits.append(ALPHABET[digit])
    digits.reverse()
    return bytes(digits)


def is_base62(text: bytes) -> bool:
    """Whether nothing but letters and digits is in ``text``."""
    return not text.translate(None, ALPHABET)
