"""YAML text to a tree of nodes with lines, bounded, before anything is believed about what it says.

Built on PyYAML's event stream and not on its composer: the composer recurses in C and a file of ``[[[[...`` ends the
process (measured with PyYAML 6.0.3), it drops duplicate keys, and it decides types before a field says what it wants.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

import yaml

MAX_DEPTH = 32  # levels of nesting; the deepest table needs 8
_LOADER: type = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_RESOLVERS = yaml.SafeLoader.yaml_implicit_resolvers
_REFERENCE = re.compile(r"\$\{([^{}\n]*)\}")
# ``{`` and ``}`` end a plain scalar inside ``{...}``; private-use characters of the same width stand in for them while
# YAML is parsed, so that ``{token: ${NAME}}`` means what it says. The value itself is put in later, after parsing.
_MASK = str.maketrans("{}", "\ue000\ue001")
_UNMASK = str.maketrans("\ue000\ue001", "{}")
_WORDS = {
    "character that cannot start any token": "this cannot start a value; put the text in quotes",
    "mapping values are not allowed": "a colon is out of place; indent the lines below the key, or quote the value",
    "expected ',' or '}'": "a mapping in {...} is not closed or lacks a comma",
    "expected ',' or ']'": "a list in [...] is not closed or lacks a comma",
    "unexpected end of stream": "a quoted text is not closed",
    "expected node content": "the value is cut short or is not closed",
    "expected key": "the indentation does not fit the lines above, or a key is missing",
    "expected <block end>": "the indentation does not fit the lines above",
    "could not find expected ':'": "a key has no colon after it, or the line is cut short",
}


class TreeError(Exception):
    """The text is no YAML we take: what is wrong, and the 1-based line (0: unknown)."""

    def __init__(self, message: str, line: int = 0) -> None:
        self.message = message
        self.line = line
        super().__init__(message)


@dataclass(slots=True, eq=False)
class Node:
    """``pairs`` of a map, ``items`` of a list, or the ``text`` of a scalar; ``plain`` is a scalar without quotes."""

    kind: Literal["map", "list", "scalar"]
    line: int
    text: str = ""
    plain: bool = False
    items: "list[Node] | None" = None

    @property
    def pairs(self) -> "Iterator[tuple[Node, Node]]":
        flat = iter(self.items or ())
        return zip(flat, flat, strict=True)


def yaml_type(text: str) -> str:
    """What YAML 1.1 makes of a plain scalar: str, int, float, bool, null, timestamp, merge or value."""
    for tag, pattern in _RESOLVERS.get(text[:1], ()):
        if pattern.match(text):
            return str(tag).rpartition(":")[2]
    return "str"


def parse(data: bytes) -> Node | None:
    """The one document in ``data``, or None when it holds nothing. TreeError says what is wrong and where."""
    text = _decode(data)
    try:
        return _build(yaml.parse(_REFERENCE.sub(lambda match: match[0].translate(_MASK), text), Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise TreeError(_explain(error, text), min(mark.line, text.count("\n")) + 1 if mark else 0) from None
    except yaml.YAMLError as error:
        raise TreeError(f"this is not YAML: {str(error).splitlines()[0]}") from None


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TreeError("the file is not UTF-8; save it as UTF-8", data.count(b"\n", 0, error.start) + 1) from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.isprintable():
            for character in line:
                if "\ue000" <= character <= "\uf8ff" or (ord(character) < 32 and character not in "\t\r"):
                    raise TreeError(f"U+{ord(character):04X} is no character for a configuration; delete it", number)
    return text


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = error.problem or "it cannot be read"
    lines = text.split("\n")
    line = lines[error.problem_mark.line] if error.problem_mark and error.problem_mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "this is not YAML: a tab; YAML is indented with spaces"
    words = next((words for part, words in _WORDS.items() if part in problem), problem)
    return f"this is not YAML: {words}"


def _build(events: Iterator[yaml.Event]) -> Node | None:
    root: Node | None = None
    anchors: dict[str, Node] = {}
    stack: list[Node] = []
    documents = 0
    for event in events:
        if isinstance(event, yaml.ScalarEvent):
            node = Node("scalar", _line(event), event.value.translate(_UNMASK), not event.style)
        elif isinstance(event, yaml.MappingStartEvent):
            node = Node("map", _line(event), items=[])
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node("list", _line(event), items=[])
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                _refuse(event, f'the alias "*{event.anchor}" names no anchor above it; quote a text that starts with *')
            node = anchors[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            continue
        else:
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                _refuse(event, 'a second document starts here; remove the "---" or put it into a file of its own')
            continue
        _check(event, node, anchors, len(stack))
        if stack and stack[-1].items is not None:
            stack[-1].items.append(node)
        else:
            root = node
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append(node)
    empty = root is not None and root.kind == "scalar" and root.plain and not root.text
    return None if empty else root


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _check(event: yaml.Event, node: Node, anchors: dict[str, Node], depth: int) -> None:
    """Refuses tags and bottomless nesting, and remembers an anchor."""
    if isinstance(event, yaml.AliasEvent):
        return
    tag = getattr(event, "tag", None)
    if tag is not None and tag != "!" and not str(tag).startswith("tag:yaml.org,2002:"):
        _refuse(event, f'the tag "{tag[:40]}" is not supported; quote a text that starts with !')
    if depth >= MAX_DEPTH:
        _refuse(event, f"nested deeper than {MAX_DEPTH} levels")
    anchor = getattr(event, "anchor", None)
    if anchor is not None:
        anchors[anchor] = node


def _refuse(event: yaml.Event, message: str) -> NoReturn:
    raise TreeError(message, _line(event))
