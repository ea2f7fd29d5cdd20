"""The kinds of single values: what text is taken, what it becomes, how it is shown, and its JSON Schema."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from sidecar.config.reading import INVALID, MAX_SECRET_BYTES, Reading, Scalar, quoted, surprise
from sidecar.config.tree import Node
from sidecar.core.money import Money
from sidecar.core.units import format_duration_ns, format_size, parse_duration_ns, parse_money, parse_size

Schema = dict[str, Any]
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
MASKED = "${MASKED}"


class Masked(str):
    """A text in which MASKED stands for the secret part of it."""


_DURATIONS = ("us", "ms", "s", "m", "h", "d", "w")
_SIZES = ("B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class ScalarKind:
    """One value. ``parse`` raises ValueError with what is wrong and what to write; ``show`` is its inverse."""

    words: str
    parse: Callable[[Scalar], Any]
    json: Schema = field(default_factory=lambda: {"type": "string"})
    show: Callable[[Any], Any] = lambda value: value

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        scalar = reading.scalar(node, path, self.words)
        if scalar is None:
            return INVALID
        try:
            return self.parse(scalar)
        except ValueError as error:
            message = str(error)
            if scalar.raw != scalar.text:
                message = _unread(message, scalar)
            reading.fault(node.line, path, message)
            return INVALID

    def schema(self) -> Schema:
        return {"anyOf": [self.json, {"$ref": "#/$defs/reference"}]}


def _unread(message: str, scalar: Scalar) -> str:
    """The message with what the file says for what a variable holds: that may be a secret in the wrong place."""
    return re.sub(
        r"""(["'])(.+?)\1""", lambda found: quoted(scalar.raw) if found[2] in scalar.text else found[0], message
    )


def text_of(scalar: Scalar) -> str:
    """The text of a scalar that YAML takes for text too. ValueError for ``ON``, ``1:30``, ``2024-01-01`` and such."""
    if scalar.type in ("str", "any"):
        return scalar.text
    raise ValueError(f'YAML reads {scalar.text} as {surprise(scalar.type)}; write "{scalar.text}" in quotes')


def text(words: str, pattern: str = r"(?s).+", *, hint: str = "", most: int = 200) -> ScalarKind:
    """Text that matches ``pattern`` as a whole; ``hint`` is what to write instead."""
    compiled = re.compile(pattern)

    def parse(scalar: Scalar) -> str:
        value = text_of(scalar)
        if not value.strip():
            raise ValueError(f"is empty; write {words}")
        if len(value) > most or not value.isprintable():
            raise ValueError(f"{quoted(value)} is not {words}; write at most {most} printable characters")
        if compiled.fullmatch(value) is None:
            raise ValueError(f"{quoted(value)} is not {words}; write {hint}")
        return value

    json: Schema = {"type": "string", "minLength": 1, "maxLength": most}
    if hint:
        json["pattern"] = f"^(?:{pattern})$"
    return ScalarKind(words, parse, json)


def name(words: str) -> ScalarKind:
    """A name that is safe in headers, labels and paths."""
    return text(words, NAME, hint="letters, digits, dots, dashes and underscores, at most 64", most=64)


def choice(*options: str) -> ScalarKind:
    """One of a few words."""
    words = f"one of {', '.join(options)}" if len(options) > 1 else options[0]

    def parse(scalar: Scalar) -> str:
        value = text_of(scalar)
        if value not in options:
            raise ValueError(f"{quoted(value)} is not known; write {words}")
        return value

    return ScalarKind(words, parse, {"type": "string", "enum": list(options)})


def _parse_bool(scalar: Scalar) -> bool:
    value = {"true": True, "false": False}.get(scalar.text.lower())
    if value is None or scalar.type not in ("bool", "any"):
        raise ValueError(f"{quoted(scalar.text)} is neither; write true or false, without quotes")
    return value


BOOLEAN = ScalarKind("true or false", _parse_bool, {"type": "boolean"})


def integer(least: int, most: int) -> ScalarKind:
    """A whole number in [least, most], written in decimal."""

    def parse(scalar: Scalar) -> int:
        written = scalar.text
        if scalar.type == "str" and re.fullmatch(r"-?\d[\d_]*", written):
            raise ValueError(f"{quoted(written)} is text; write the number without quotes")
        if re.fullmatch(r"-?\d+(?:_\d+)*", written) is None or (re.match(r"-?0[\d_]", written) is not None):
            raise ValueError(f"{quoted(written)} is not a plain whole number; write one such as 100 or 10_000")
        if len(written) > 40 or not least <= int(written) <= most:
            raise ValueError(f"{written[:40]} is out of range; write a number from {least:,} to {most:,}")
        return int(written)

    words = f"a whole number, {least:,} to {most:,}"
    return ScalarKind(words, parse, {"type": "integer", "minimum": least, "maximum": most})


def _measured(
    words: str, units: tuple[str, ...], default: str, parse_text: Callable[[str], int], show: Callable[[int], str]
) -> Callable[[int, int], ScalarKind]:
    """Makes kinds of amounts with a unit that must lie in [least, most]."""
    lower = {unit.lower(): unit for unit in reversed(units)}

    def make(least: int, most: int) -> ScalarKind:
        def parse(scalar: Scalar) -> int:
            written = scalar.text.strip()
            if re.fullmatch(r"\d[\d_]*(\.\d+)?", written):
                raise ValueError(f'"{written[:40]}" has no unit; write {written[:40]}{default} if you mean that')
            unit = re.fullmatch(r"[\d.]+\s*([A-Za-z]+)", written)
            if unit and unit[1] not in units and unit[1].lower() in lower:
                raise ValueError(f'"{written[:40]}" has no known unit; did you mean {lower[unit[1].lower()]}?')
            value = parse_text(written)
            if not least <= value <= most:
                raise ValueError(f'"{written[:40]}" is out of range; write {words}, {show(least)} to {show(most)}')
            return value

        json = {"type": "string", "pattern": rf"^\d+(\.\d+)?\s*({'|'.join(units)})$"}
        return ScalarKind(f"{words}, {show(least)} to {show(most)}", parse, json, show)

    return make


duration = _measured("a duration", _DURATIONS, "s", parse_duration_ns, format_duration_ns)
size = _measured("a size", _SIZES, "B", parse_size, format_size)


def _parse_money(scalar: Scalar) -> Money:
    if re.fullmatch(r"-?[\d_.,]+", scalar.text):
        raise ValueError(f'"{scalar.text[:40]}" has no currency; write it with one, such as "{scalar.text[:40]} USD"')
    money = parse_money(scalar.text)
    if money.amount < 0:
        raise ValueError(f"{quoted(scalar.text)} is negative; write what is to be paid")
    return money


MONEY = ScalarKind(
    'an amount with its currency, such as "0.50 USD"',
    _parse_money,
    {"type": "string", "pattern": r"^\d{1,15}(_\d{3})*(\.\d{1,12})?\s+[A-Z]{3}$"},
    str,
)
FREE = Money(Fraction(0), "USD")


@dataclass(frozen=True, slots=True)
class SecretKind:
    """A secret: never in the YAML itself, but ``${NAME}`` or ``file:PATH``. Its value is never in a message.

    ``least`` is in bytes. With ``may_be_empty`` an empty variable (``${NAME:-}``) means: not set.
    """

    least: int
    may_be_empty: bool = False

    @property
    def words(self) -> str:
        return f"${{NAME}} or file:PATH, a secret of at least {self.least} bytes"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        scalar = reading.scalar(node, path, self.words)
        if scalar is None:
            return INVALID
        if scalar.raw.startswith("file:"):
            reading.see(_secret_path(scalar))
        try:
            return self._parse(scalar)
        except ValueError as error:
            reading.fault(node.line, path, str(error))
            return INVALID

    def _parse(self, scalar: Scalar) -> str | None:
        if scalar.raw.startswith("file:"):
            value = _secret_file(scalar)
        elif re.fullmatch(r"(\$\{[A-Za-z_][A-Za-z0-9_]*(:-)?\})+", scalar.raw):
            value = scalar.text
        else:
            raise ValueError("is a secret written in clear; write ${NAME} or file:PATH and keep the secret there")
        if not value and self.may_be_empty:
            return None
        if not value:
            raise ValueError(f"the secret is empty; give {quoted(scalar.raw)} a value")
        if len(value.encode()) < self.least:
            raise ValueError(f"the secret is shorter than {self.least} bytes; make one with: openssl rand -hex 32")
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise ValueError("the secret holds spaces at an end, line ends or characters beyond ASCII; make a new one")
        return value

    def schema(self) -> Schema:
        return {"type": "string", "pattern": r"^(\$\{.*\}|file:.+)$"}

    def show(self, value: Any) -> Any:
        return MASKED


def _secret_path(scalar: Scalar) -> Path:
    return scalar.folder / Path(scalar.text.removeprefix("file:"))


def _secret_file(scalar: Scalar) -> str:
    path = _secret_path(scalar)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        if len(data) > MAX_SECRET_BYTES:
            raise ValueError(f"{quoted(str(path))} is larger than {MAX_SECRET_BYTES // 1024} KiB; it is no secret")
        return data.decode("ascii").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"the file {quoted(str(path))} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {quoted(str(path))} holds characters beyond ASCII; it is no secret") from None
