"""Stripe's form encoding: ``items[0][price]=x`` and ``expand[]=y`` into nested objects and lists of texts."""

import re
from collections.abc import Iterable
from typing import Any

_PART = re.compile(r"\[([^\]]*)\]")


def nested(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Raises ``ValueError`` where one name is both a text and an object."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        head, _, rest = name.partition("[")
        path = [head, *_PART.findall("[" + rest if rest else "")]
        node = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name} is both a text and an object")
        node[path[-1] or str(len(node))] = value
    return {name: _lists(value) for name, value in root.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _lists(v) for name, v in value.items()}
    if inner and list(inner) == [str(n) for n in range(len(inner))]:
        return list(inner.values())
    return inner
