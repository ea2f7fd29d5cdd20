"""What one load has seen so far: every fault, where each value stands, and the environment that it may refer to."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from sidecar.config.tree import Node, yaml_type
from sidecar.core.errors import ConfigError, Fault
from sidecar.core.policy import Origin

MAX_NODES = 1_000_000  # values in one load, aliases counted each time; 10,000 routes are about 150,000
MAX_SCALAR = 4096  # characters of one value
MAX_SECRET_BYTES = 64 * 1024  # of a file that is referred to
BUILT_IN = "built-in"
_PART = re.compile(r"\$(\$?)\{([^}]*)(\}?)")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class _Invalid:
    """The value of a field that had a fault, which has been written down already."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as text. ``type`` is what YAML 1.1 makes of it (see yaml_type), ``any`` when an ``${...}`` was put in.

    ``raw`` is what the file says, before ``${...}`` was replaced.
    """

    text: str
    type: str
    raw: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands, and the line and path of each of its fields by attribute."""

    value: object  # held, so that its id stays its own
    file: str
    line: int
    path: str
    fields: Mapping[str, tuple[int, str]]


Stamp: TypeAlias = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """What changes when a file or folder does: time of change, size, inode. None when it cannot be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass
class Reading:
    """The state of one load. ``file`` and ``folder`` are those of the file being read, ``main`` is sidecar.yaml."""

    environ: Mapping[str, str]
    file: str = BUILT_IN
    main: str = BUILT_IN  # the sidecar.yaml of this load: where a fault of a default is told
    folder: Path = field(default_factory=Path)
    faults: list[Fault] = field(default_factory=list)
    declared: set[tuple[str, str]] = field(default_factory=set)  # (table, name), broken ones too
    places: dict[int, Place] = field(default_factory=dict)
    nodes: int = 0
    seen: dict[Path, "Stamp"] = field(default_factory=dict)  # what was read, as it was just before

    def see(self, path: Path) -> None:
        """``path``, a file or folder, is about to be read."""
        self.seen[path] = stamp(path)

    def fault(self, line: int, path: str, message: str) -> None:
        """Writes down one fault of the file being read."""
        self.faults.append(Fault(self.file, line, path, message))

    def blame(self, value: object, attribute: str, message: str) -> None:
        """Writes down a fault of a value that was read before; ``attribute`` (or "") is the field that is wrong."""
        place = self.places.get(id(value))
        if place is None:
            self.faults.append(Fault(self.main, 0, "", message))
            return
        line, path = place.fields.get(attribute, (place.line, place.path))
        line = line if place.line else 0
        self.faults.append(Fault(place.file, line, path, message))

    def names(self, table: str) -> set[str]:
        """The names that were declared of one table, of broken values too."""
        return {name for kind, name in self.declared if kind == table}

    def where(self, value: object, attribute: str = "") -> str:
        """``file:line`` of a value that was read before."""
        place = self.places.get(id(value))
        if place is None or place.file == BUILT_IN:
            return BUILT_IN
        return f"{place.file}:{place.fields.get(attribute, (place.line, ''))[0]}"

    def origin(self, node: Node) -> Origin:
        """Where ``node`` stands, as the policy types keep it."""
        return Origin() if self.file == BUILT_IN else Origin(self.file, node.line)

    def place(self, value: object, node: Node, path: str, fields: Mapping[str, tuple[int, str]]) -> None:
        """Remembers where ``value`` stands."""
        self.places[id(value)] = Place(value, self.file, 0 if self.file == BUILT_IN else node.line, path, fields)

    def moved(self, old: object, new: object) -> None:
        """``new`` was made out of ``old`` and stands where it stood."""
        place = self.places.get(id(old))
        if place is not None:
            self.places[id(new)] = Place(new, place.file, place.line, place.path, place.fields)

    def count(self, node: Node) -> None:
        """One more value. ConfigError at once when there are too many, as aliases of aliases make them."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.fault(node.line, "", f"more than {MAX_NODES:,} values; an alias that repeats an alias multiplies them")
            raise ConfigError(self.faults)

    def scalar(self, node: Node, path: str, words: str) -> Scalar | None:
        """The value of ``node`` with its ``${...}`` put in, or None after a fault. ``words`` say what it is."""
        self.count(node)
        if node.kind != "scalar":
            shape = "a mapping" if node.kind == "map" else "a list"
            self.fault(node.line, path, f"is {shape}; write {words}")
            return None
        if len(node.text) > MAX_SCALAR:
            self.fault(node.line, path, f"is longer than {MAX_SCALAR:,} characters")
            return None
        kind = yaml_type(node.text) if node.plain else "str"
        if kind == "null":
            self.fault(node.line, path, "has no value; write one or remove the key")
            return None
        if "${" not in node.text:
            return Scalar(node.text, kind, node.text, self.folder)
        text = self.interpolate(node, path)
        return None if text is None else Scalar(text, "any", node.text, self.folder)

    def interpolate(self, node: Node, path: str) -> str | None:
        """The text with ``${NAME}`` and ``${NAME:-default}`` replaced and ``$${`` made ``${``; None after a fault."""
        sound = True

        def value(match: re.Match[str]) -> str:
            nonlocal sound
            if match[1]:
                return match[0][1:]
            inside = _INSIDE.fullmatch(match[2])
            if not match[3] or inside is None:
                message = (
                    f"{quoted(match[0])} is no reference; write ${{NAME}} or ${{NAME:-default}}, or $${{ for the text"
                )
            elif self.environ.get(inside[1]) or (inside[1] in self.environ and inside[2] is None):
                return self.environ[inside[1]]
            elif inside[2] is not None:
                return inside[2]
            else:
                message = f"the environment variable {inside[1]} is not set; set it or write ${{{inside[1]}:-default}}"
            self.fault(node.line, path, message)
            sound = False
            return ""

        text = _PART.sub(value, node.text)
        return text if sound else None

    def pairs(self, node: Node, path: str, words: str) -> list[tuple[str, Node, Node]] | None:
        """The keys and values of a mapping, each key once; None after writing down why not."""
        self.count(node)
        if node.kind != "map":
            empty = node.kind == "scalar" and node.plain and yaml_type(node.text) == "null"
            wrong = "has no value; write" if empty else f"is {'a list' if node.kind == 'list' else 'one value'}; write"
            self.fault(node.line, path, f"{wrong} {words}" if not empty else f"{wrong} {words}, or remove the key")
            return None
        seen: dict[str, int] = {}
        result = []
        for key, value in node.pairs:
            name = self._key(key, path)
            if name is None:
                continue
            if name in seen:
                self.fault(
                    key.line, path, f"the key {quoted(name)} is written twice; it stands on line {seen[name]} too"
                )
                continue
            seen[name] = key.line
            result.append((name, key, value))
        return result

    def _key(self, key: Node, path: str) -> str | None:
        self.count(key)
        if key.kind != "scalar":
            self.fault(key.line, path, "a key is a mapping or a list; write a name")
            return None
        kind = yaml_type(key.text) if key.plain else "str"
        if kind == "merge":
            self.fault(key.line, path, "merge keys (<<) are not supported; write the values out")
            return None
        if kind != "str":
            self.fault(
                key.line, path, f'YAML reads the key {key.text[:80]} as {_SURPRISE[kind]}; write "{key.text[:80]}"'
            )
            return None
        return key.text


_SURPRISE = {
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "timestamp": "a date",
    "value": "a special key",
    "merge": "a merge key",
}


def surprise(kind: str) -> str:
    """What YAML 1.1 makes of a plain text, in words."""
    return _SURPRISE[kind]


def quoted(text: str) -> str:
    """A piece of somebody's text for a message: in double quotes, one line, at most 80 characters."""
    shown = text if len(text) <= 80 else f"{text[:79]}…"
    return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown) + '"'


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean "limits"?``, or what there is to choose from, or nothing when that is too much."""
    names = sorted(known)
    if len(names) > 200:  # looking for the nearest of 10,000 names, for 10,000 faults, would take minutes
        return ""
    close = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {quoted(close[0])}?"
    if not names:
        return ""
    return f"; write one of {', '.join(names)}" if len(names) <= 32 else ""


def join(path: str, key: str | int) -> str:
    """The path of a part: ``plans.free`` and ``limits[0]``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if re.fullmatch(r"[A-Za-z0-9_-]{1,80}", key) else quoted(key)
    return f"{path}.{shown}" if path else shown
