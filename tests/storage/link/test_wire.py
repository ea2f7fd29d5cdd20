"""Values as bytes and back, and nothing else: a peer can send wrong values, never code."""

import pickle
import struct
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import StoreError
from sidecar.storage.link import Wire


class Point(NamedTuple):
    x: int
    y: tuple[int, ...] = ()


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Box:
    name: str | None
    inner: Any = None


class Plain:
    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.numbers == self.numbers

    __hash__ = None  # type: ignore[assignment]


WIRE = Wire([Point, Colour, Box], {Plain: (lambda value: (value.numbers,), Plain)})
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.fractions()
    | st.just(Colour.RED)
    | st.builds(Plain, st.lists(st.integers(), max_size=3))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.builds(Point, st.integers(), st.lists(st.integers(), max_size=3).map(tuple))
        | st.builds(Box, st.none() | st.text(max_size=4), inner)
        | st.dictionaries(st.text(max_size=4) | st.tuples(st.text(max_size=4), st.integers()), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_packed_comes_out_as_it_was(value: Any) -> None:
    out = WIRE.unpack(WIRE.pack(value))
    assert out == value
    assert type(out) is type(value)


@given(st.binary(max_size=200))
def test_bytes_of_no_value_are_an_error_and_nothing_else(data: bytes) -> None:
    try:
        WIRE.unpack(data)
    except StoreError:
        return


@pytest.mark.parametrize(
    "tree",
    [
        '["os.system","true"]',
        '["Point"]',
        '["m",1]',
        '["b",0]',
        '["b",-1]',
        '{"a":1}',
        "[]",
        "[" * 100_000,
        '["t",["e"]]',
    ],
)
def test_trees_that_are_none(tree: str) -> None:
    text = f"[{tree},[]]".encode()
    with pytest.raises(StoreError):
        WIRE.unpack(struct.pack("<I", len(text)) + text)


def test_a_pickle_is_not_read() -> None:
    with pytest.raises(StoreError):
        WIRE.unpack(pickle.dumps(Fraction(1, 2)))


def test_a_class_that_is_not_in_the_table_is_refused_where_it_is_sent() -> None:
    with pytest.raises(TypeError, match="object is not in the table"):
        WIRE.pack([object()])


def test_two_classes_of_one_name_are_refused() -> None:
    other = NamedTuple("Point", [("z", int)])  # noqa: UP014 - the same name again
    with pytest.raises(ValueError, match="Point"):
        Wire([Point, other])
