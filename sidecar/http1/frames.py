"""WebSocket frames as they go by (RFC 6455, 5.2): messages are counted, nothing is held, unmasked or changed."""

from typing import Final

_CONTINUATION: Final = 0
_BINARY: Final = 2
_CONTROL: Final = 8
_FIN: Final = 0x80
_MASKED: Final = 0x80
_LONGEST: Final = (1 << 63) - 1


def close_frame(code: int, reason: bytes, mask: bytes = b"") -> bytes:
    """A close as a server sends it (RFC 6455, 5.5.1), or with a ``mask`` of four bytes as a client does (5.3);
    ``reason`` has at most 123 bytes."""
    payload = code.to_bytes(2, "big") + reason
    if not mask:
        return bytes((0x88, len(payload))) + payload
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((0x88, _MASKED | len(payload))) + mask + masked


class MessageCounter:
    """Counts one direction of a connection, however its bytes are split.

    A message counts when its last byte has passed: fragments together are one, control frames are none, frames with
    reserved opcodes neither. Holds at most the 14 bytes of one frame's head. What is not WebSocket is counted wrongly
    and does no harm.
    """

    __slots__ = ("_completes", "_head", "_left", "_need", "_open")

    def __init__(self) -> None:
        self._head = b""
        self._need = 2  # bytes of a frame's head, as far as is known
        self._left = 0  # bytes of the payload that are still to come
        self._completes = False  # the frame under way is the last one of a message
        self._open = False  # a fragmented message is under way

    def feed(self, data: bytes) -> int:
        """Reads on; returns how many messages became complete."""
        at, end, complete = 0, len(data), 0
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
            else:
                step = min(self._need - len(self._head), end - at)
                self._head += data[at : at + step]
                at += step
                if len(self._head) < self._need or not self._head_read():
                    continue
            if not self._left and self._completes:
                self._completes = False
                complete += 1
        return complete

    @property
    def step(self) -> int:
        """Bytes that may follow and surely belong to the frame under way; 0 between two frames."""
        if self._left:
            return self._left
        return self._need - len(self._head) if self._head else 0

    def _head_read(self) -> bool:
        """``_need`` bytes of a head are here; whether they are all of it."""
        head = self._head
        short = head[1] & 0x7F
        extended = 2 if short == 126 else 8 if short == 127 else 0
        need = 2 + extended + (4 if head[1] & _MASKED else 0)
        if len(head) < need:
            self._need = need
            return False
        self._head = b""
        self._need = 2
        self._left = min(int.from_bytes(head[2 : 2 + extended], "big"), _LONGEST) if extended else short
        opcode, last = head[0] & 0x0F, bool(head[0] & _FIN)
        if opcode >= _CONTROL:
            self._completes = False
        elif opcode == _CONTINUATION:
            self._completes = last and self._open
            self._open = self._open and not last
        else:
            self._completes = last and opcode <= _BINARY
            self._open = not last and opcode <= _BINARY
        return True
