"""Header fields that the configuration sets and removes, compiled to one pass over a block of field lines."""

from collections.abc import Iterable

from sidecar.core.edges import FieldRules


class FieldEdits:
    """Takes ``FieldRules`` one after the other, the later ones over the earlier; ``drop`` are lower-case names that go
    besides. The block edited last is remembered, because a connection repeats its own."""

    __slots__ = ("_block", "_drop", "_edited", "_lines")

    def __init__(self, rules: Iterable[FieldRules | None], drop: frozenset[bytes] = frozenset()) -> None:
        made: dict[bytes, bytes] = {}
        gone: set[bytes] = set(drop)
        for rule in rules:
            if rule is None:
                continue
            for name in rule.remove:
                made.pop(name.lower().encode(), None)
                gone.add(name.lower().encode())
            for name, value in rule.set:
                made[name.lower().encode()] = f"{name}: {value}\r\n".encode("latin-1")
        self._drop = frozenset(gone | made.keys())
        self._lines = b"".join(made.values())
        self._block = b""
        self._edited = self._lines

    def apply(self, block: bytes) -> bytes:
        """The field lines of ``block`` after the edits; what is set stands last."""
        if block is not self._block and block != self._block:
            lines = block.split(b"\r\n")
            kept = [line for line in lines if line.partition(b":")[0].lower() not in self._drop]
            self._edited = b"\r\n".join(kept) + self._lines
            self._block = block
        return self._edited

    @property
    def idle(self) -> bool:
        """Whether nothing is edited."""
        return not self._drop
