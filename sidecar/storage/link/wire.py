"""Values as bytes: JSON for what has a shape, and behind it, as they are, the bytes that stood in it.

::

    u32 size of the JSON | JSON: [tree, [size of each piece of bytes]] | the pieces

In the tree a number, a text, true, false and null are themselves. Everything else is a list whose first element says
what it is: ``t`` a tuple, ``l`` a list, ``s`` a frozenset, ``m`` a mapping (keys and values by turns), ``b`` the number
of a piece, ``e`` an enumeration's member, or the name of a class and then its fields. Only classes of the table that
both ends were made with are built, and nothing is called but them: a peer can send wrong values, never code.
"""

import dataclasses
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from fractions import Fraction
from typing import Any, TypeAlias

from sidecar.core.errors import StoreError

Special: TypeAlias = Mapping[type, tuple[Callable[[Any], tuple[Any, ...]], Callable[..., Any]]]
_SIZE = struct.Struct("<I")
_PLAIN = frozenset({int, str, bool, float, type(None)})
_TAGS = frozenset("tlsmbe")
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Wire:
    """Packs and unpacks. ``classes``: named tuples, dataclasses and enumerations; ``special``: other classes, each with
    what takes it apart and what puts it together."""

    def __init__(self, classes: Iterable[type], special: Special | None = None) -> None:
        self._apart: dict[type, tuple[str, Callable[[Any], Iterable[Any]]]] = {}
        self._build: dict[str, Callable[..., Any]] = {}
        for cls in classes:
            if hasattr(cls, "_fields"):
                self._add(cls, iter, cls)
            elif dataclasses.is_dataclass(cls):
                self._add(cls, _fields_of(cls), cls)
            elif issubclass(cls, Enum):
                self._add(cls, _value_of, cls)
        self._add(Fraction, lambda value: (value.numerator, value.denominator), Fraction)
        for cls, (apart, build) in (special or {}).items():
            self._add(cls, apart, build)

    def _add(self, cls: type, apart: Callable[[Any], Iterable[Any]], build: Callable[..., Any]) -> None:
        name = cls.__name__
        if name in _TAGS or self._build.get(name, build) is not build:
            raise ValueError(f"the name {name} stands for something else already")
        self._apart[cls] = name, apart
        self._build[name] = build

    def pack(self, value: object) -> bytes:
        """TypeError: a class that is not in the table."""
        pieces: list[bytes] = []
        text = _encode([self._tree(value, pieces), [len(piece) for piece in pieces]]).encode()
        return b"".join((_SIZE.pack(len(text)), text, *pieces))

    def unpack(self, data: bytes) -> Any:
        """StoreError: not what ``pack`` makes of anything."""
        try:
            (size,) = _SIZE.unpack_from(data)
            tree, sizes = json.loads(data[_SIZE.size : _SIZE.size + size])
            pieces, at = [], _SIZE.size + size
            for length in sizes:
                pieces.append(bytes(data[at : at + length]))
                at += length
            if at != len(data):
                raise ValueError("its parts are not as long as it says")
            return self._value(tree, pieces)
        except (ValueError, TypeError, KeyError, IndexError, struct.error, RecursionError) as error:
            raise StoreError(f"what came over the link cannot be read: {error!r}"[:200]) from None

    def _tree(self, value: Any, pieces: list[bytes]) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        found = self._apart.get(kind)
        if found is not None:
            name, apart = found
            return [name, *[self._tree(part, pieces) for part in apart(value)]]
        if kind is tuple:
            return ["t", *[self._tree(part, pieces) for part in value]]
        if kind is list:
            return ["l", *[self._tree(part, pieces) for part in value]]
        if kind is bytes:
            pieces.append(value)
            return ["b", len(pieces) - 1]
        if isinstance(value, Mapping):
            return ["m", *[self._tree(part, pieces) for pair in value.items() for part in pair]]
        if isinstance(value, frozenset | set):
            return ["s", *[self._tree(part, pieces) for part in value]]
        raise TypeError(f"{kind.__name__} is not in the table of the link")

    def _value(self, tree: Any, pieces: list[bytes]) -> Any:
        if type(tree) is not list:
            if type(tree) not in _PLAIN:
                raise ValueError("a mapping stands where none can")
            return tree
        tag = tree[0]
        if tag == "b":
            return pieces[tree[1]]
        parts = [self._value(part, pieces) for part in tree[1:]]
        if tag == "t":
            return tuple(parts)
        if tag == "l":
            return parts
        if tag == "m":
            return dict(zip(parts[::2], parts[1::2], strict=True))
        if tag == "s":
            return frozenset(parts)
        return self._build[tag](*parts)


def _fields_of(cls: Any) -> Callable[[Any], Iterable[Any]]:
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    return lambda value: [getattr(value, name) for name in names]


def _value_of(member: Any) -> tuple[Any]:
    return (member.value,)
