"""Names that the writer chooses, each with one value: ``estimates:`` of a route, the factors of ``multiply:``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.config.kinds import ScalarKind, Schema
from sidecar.config.reading import INVALID, Reading, join
from sidecar.config.tree import Node


@dataclass(frozen=True, slots=True)
class Pairs:
    """1 to ``most`` pairs, broken ones are left out. ``what``: the names in the plural; ``good``: of a name, None is
    any, and ``bad`` what is said of another; ``make``: what is kept of the pairs."""

    value: ScalarKind
    what: str
    words: str
    most: int
    make: Callable[[dict[str, Any]], Any] = dict
    good: Callable[[str], bool] | None = None
    bad: str = ""

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        pairs = reading.pairs(node, path, self.words)
        if pairs is None:
            return INVALID
        if not 0 < len(pairs) <= self.most:
            held = f"holds {len(pairs):,} {self.what}" if pairs else "is empty"
            reading.fault(node.line, path, f"{held}; write {self.words}, 1 to {self.most:,} of them")
            return INVALID
        found = {}
        for key, key_node, value_node in pairs:
            at = join(path, key)
            if self.good is not None and not self.good(key):
                reading.fault(key_node.line, at, self.bad)
                continue
            value = self.value.read(value_node, at, reading)
            if value is not INVALID:
                found[key] = value
        return self.make(found)

    def schema(self) -> Schema:
        return {
            "type": "object",
            "additionalProperties": self.value.schema(),
            "minProperties": 1,
            "maxProperties": self.most,
        }

    def show(self, value: Mapping[str, Any] | tuple[tuple[str, Any], ...]) -> Any:
        return {key: self.value.show(one) for key, one in dict(value).items()}
