"""``estimates:`` of a route: what one call is held for, of meters that are known only at its end."""

from dataclasses import dataclass
from typing import Any

from sidecar.config.kinds import Schema, integer
from sidecar.config.prices import MOST
from sidecar.config.reading import INVALID, Reading, join
from sidecar.config.tree import Node

_MOST_METERS = 64
_AMOUNT = integer(1, MOST)


@dataclass(frozen=True, slots=True)
class Estimates:
    """Meters with their amounts, as pairs."""

    words: str = "meters and their amounts, such as {tokens: 2_000}"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        pairs = reading.pairs(node, path, self.words)
        if pairs is None:
            return INVALID
        if not 0 < len(pairs) <= _MOST_METERS:
            held = f"holds {len(pairs):,} meters" if pairs else "is empty"
            reading.fault(node.line, path, f"{held}; write {self.words}, 1 to {_MOST_METERS} of them")
            return INVALID
        found = [(key, _AMOUNT.read(value_node, join(path, key), reading)) for key, _, value_node in pairs]
        return INVALID if any(amount is INVALID for _, amount in found) else tuple(found)

    def schema(self) -> Schema:
        return {
            "type": "object",
            "additionalProperties": _AMOUNT.schema(),
            "minProperties": 1,
            "maxProperties": _MOST_METERS,
        }

    def show(self, value: Any) -> Any:
        return dict(value)
