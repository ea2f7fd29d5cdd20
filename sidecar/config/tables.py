"""Tables of fields, and the kinds that are made of other kinds.

A table is the only place that says what a mapping may hold: the loader, the suggestions for a wrong key, the JSON
Schemas, docs/configuration.md and ``config show --effective`` all follow from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any, Final, Protocol

from sidecar.config.kinds import ScalarKind, Schema, SecretKind
from sidecar.config.reading import INVALID, Reading, Scalar, join, nearest, quoted
from sidecar.config.tree import Node

UNSET: Final = object()


class Kind(Protocol):
    """What a value may be: ``words`` for people, ``read`` (a value, or INVALID after a fault), ``schema``, ``show``."""

    @property
    def words(self) -> str: ...
    def read(self, node: Node, path: str, reading: Reading) -> Any: ...
    def schema(self) -> Schema: ...
    def show(self, value: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Field:
    """One key. ``attr`` names what it fills (several: the value is a tuple; empty: the key's own name).

    ``default`` is used when the key is absent; UNSET leaves it to the type that the table makes. ``absent`` says in
    words what an absent key means, where the default does not. ``vital``: without a right value nothing can be made.
    """

    key: str
    kind: Kind
    doc: str
    attr: str = ""
    required: bool = False
    default: Any = UNSET
    absent: str = ""
    vital: bool = False

    @property
    def attrs(self) -> tuple[str, ...]:
        return tuple((self.attr or self.key).split())


@dataclass(frozen=True)
class Table:
    """A mapping with known keys. ``make`` builds the value out of the attributes; ``split`` takes it apart again.

    ``of`` is the type that is made, where ``make`` is a function and the value keeps its origin.
    """

    name: str
    doc: str
    make: Callable[..., Any]
    fields: tuple[Field, ...]
    split: Callable[[Any], Mapping[str, Any]] | None = None
    of: type | None = None

    @cached_property
    def by_key(self) -> dict[str, Field]:
        return {entry.key: entry for entry in self.fields}

    @cached_property
    def made(self) -> dict[str, Any]:
        """The attributes of the type that is made, with their defaults (UNSET: none)."""
        made: Any = self.of or self.make
        if not hasattr(made, "__dataclass_fields__"):
            return {}
        found = {}
        for entry in fields(made):
            factory = entry.default_factory
            default = entry.default if factory is MISSING else factory()
            found[entry.name] = UNSET if default is MISSING else default
        return found

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that the fields fill, those of groups too."""
        found: list[str] = []
        for entry in self.fields:
            found += entry.kind.table.attributes if isinstance(entry.kind, Group) else entry.attrs
        return tuple(found)

    def default(self, entry: Field) -> Any:
        """The value of an absent key, UNSET when there is none."""
        if entry.default is not UNSET or entry.required:
            return entry.default
        values = tuple(self.made.get(attr, UNSET) for attr in entry.attrs)
        return UNSET if UNSET in values else values[0] if len(values) == 1 else values

    def fill(
        self, node: Node, path: str, reading: Reading, values: dict[str, Any], lines: dict[str, tuple[int, str]]
    ) -> bool:
        """Reads the mapping's keys into ``values``; False when a value that is needed to go on is missing or wrong."""
        pairs = reading.pairs(node, path, f"a mapping with {', '.join(list(self.by_key)[:6])}")
        if pairs is None:
            return False
        sound = True
        given = set()
        for key, key_node, value_node in pairs:
            entry = self.by_key.get(key)
            if entry is None:
                reading.fault(key_node.line, path, f"unknown key {quoted(key)}{nearest(key, self.by_key)}")
                continue
            given.add(key)
            at = join(path, key)
            if isinstance(entry.kind, Group):
                sound &= entry.kind.table.fill(value_node, at, reading, values, lines)
                continue
            value = entry.kind.read(value_node, at, reading)
            if value is INVALID:
                sound = sound and not isinstance(entry.kind, ScalarKind | SecretKind)
                sound = sound and not entry.required and not entry.vital
            else:
                self._store(entry, value, values)
            for attr in entry.attrs:
                lines[attr] = (value_node.line, at)
        for entry in self.fields:
            if entry.key in given:
                continue
            if entry.required:
                reading.fault(node.line, path, f'"{entry.key}" is missing; write {entry.kind.words}')
                sound = False
            elif entry.default is not UNSET:
                self._store(entry, entry.default, values)
        return sound

    def read(self, node: Node, path: str, reading: Reading, **known: Any) -> Any:
        """The value that the mapping makes, or INVALID. ``known`` are attributes from outside, such as the name."""
        values: dict[str, Any] = dict(known)
        lines: dict[str, tuple[int, str]] = {}
        sound = self.fill(node, path, reading, values, lines)
        if isinstance(values.get("name"), str):
            reading.declared.add((self.name, values["name"]))
        if not sound:
            return INVALID
        if "origin" in self.made:
            values["origin"] = reading.origin(node)
        try:
            value = self.make(**values)
        except ValueError as error:
            reading.fault(node.line, path, str(error))
            return INVALID
        reading.place(value, node, path, lines)
        return value

    def show(self, value: Any) -> dict[str, Any]:
        """The mapping that makes ``value``: YAML data, every key that has a value, secrets masked."""
        return self.show_attributes(
            self.split(value) if self.split else {attr: getattr(value, attr) for attr in self.attributes}
        )

    def show_attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for entry in self.fields:
            if isinstance(entry.kind, Group):
                shown[entry.key] = entry.kind.table.show_attributes(attributes)
                continue
            parts = tuple(attributes.get(attr) for attr in entry.attrs)
            if None not in parts:
                shown[entry.key] = entry.kind.show(parts[0] if len(parts) == 1 else parts)
        return {key: value for key, value in shown.items() if value or not getattr(self.by_key[key].kind, "least", 0)}

    @staticmethod
    def _store(entry: Field, value: Any, values: dict[str, Any]) -> None:
        attrs = entry.attrs
        if len(attrs) == 1:
            values[attrs[0]] = value
        else:
            values.update(zip(attrs, value, strict=True))


@dataclass(frozen=True, slots=True)
class Group:
    """A mapping that fills attributes of the value around it (``timeouts``, ``match``); its field has no ``attr``."""

    table: Table
    words: str = "a mapping"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        raise NotImplementedError("a group is filled by the table around it")

    def schema(self) -> Schema:
        return {"$ref": f"#/$defs/{self.table.name}"}

    def show(self, value: Any) -> Any:
        raise NotImplementedError("a group is shown by the table around it")


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with known keys."""

    table: Table

    @property
    def words(self) -> str:
        return f"a mapping with {', '.join(list(self.table.by_key)[:6])}"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        return self.table.read(node, path, reading)

    def schema(self) -> Schema:
        return {"$ref": f"#/$defs/{self.table.name}"}

    def show(self, value: Any) -> Any:
        return self.table.show(value)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; broken items are left out after their faults. ``single`` takes one item without the list too.
    ``unique``: no two items have the same text; single values never are there twice."""

    item: Kind
    words: str
    make: Callable[[Sequence[Any]], Any] = tuple
    least: int = 0
    most: int = 1000
    single: bool = False
    order: bool = True
    unique: bool = False

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if node.kind != "list" and self.single:
            value = self.item.read(node, path, reading)
            return INVALID if value is INVALID else self.make([value])
        reading.count(node)
        if node.kind != "list" or node.items is None:
            example = f"[{node.text[:40]}]" if node.kind == "scalar" and node.text else self.words
            reading.fault(node.line, path, f"is not a list; write {example}")
            return INVALID
        if not self.least <= len(node.items) <= self.most:
            message = f"holds {len(node.items):,} values; write {self.words}, {self.least:,} to {self.most:,}"
            reading.fault(node.line, path, "is an empty list; write " + self.words if not node.items else message)
            return INVALID
        values: list[Any] = []
        for index, item in enumerate(node.items):
            value = self.item.read(item, join(path, index), reading)
            if value is INVALID:
                continue
            single = isinstance(self.item, ScalarKind)
            if (single and value in values) or (self.unique and str(value) in map(str, values)):
                shown = self.item.show(value) if single else value
                reading.fault(item.line, join(path, index), f"{quoted(str(shown))} stands there twice")
                continue
            values.append(value)
        whole = len(values) == len(node.items) or not (self.unique or isinstance(self.item, ScalarKind))
        try:
            return self.make(values) if whole else INVALID
        except ValueError as error:
            reading.fault(node.line, path, str(error))
            return INVALID

    def schema(self) -> Schema:
        several: Schema = {"type": "array", "items": self.item.schema(), "maxItems": self.most}
        if self.least:
            several["minItems"] = self.least
        return {"anyOf": [several, self.item.schema()]} if self.single else several

    def show(self, value: Any) -> Any:
        shown = [self.item.show(item) for item in value]
        return shown if self.order else sorted(shown)


@dataclass(frozen=True, slots=True)
class MapOf:
    """Names to values of one table; the key becomes the value's ``naming`` attribute. Broken ones are left out."""

    table: Table
    key: ScalarKind
    words: str
    least: int = 0
    most: int = 100_000
    make: Callable[[dict[str, Any]], Any] = dict
    naming: str = "name"
    unmake: Callable[[Any], Mapping[str, Any]] = field(default=dict)

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        pairs = reading.pairs(node, path, self.words)
        if pairs is None:
            return INVALID
        if not self.least <= len(pairs) <= self.most:
            counted = f"{self.least:,} to {self.most:,}"
            held = f"holds {len(pairs):,} entries" if pairs else "is empty"
            reading.fault(node.line, path, f"{held}; write {self.words}, {counted} of them")
            return INVALID
        values = {}
        for key, key_node, value_node in pairs:
            at = join(path, key)
            try:
                self.key.parse(Scalar(key, "str", key, reading.folder))
            except ValueError as error:
                reading.fault(key_node.line, at, str(error))
                continue
            value = self.table.read(value_node, at, reading, **{self.naming: key})
            if value is not INVALID:
                values[key] = value
        return self.make(values)

    def schema(self) -> Schema:
        return {
            "type": "object",
            "propertyNames": self.key.json,
            "additionalProperties": {"$ref": f"#/$defs/{self.table.name}"},
            "minProperties": self.least,
        }

    def show(self, value: Any) -> Any:
        return {key: self.table.show(item) for key, item in self.unmake(value).items()}
