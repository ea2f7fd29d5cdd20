"""One kind of thing that goes wrong."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

Act: TypeAlias = "Callable[[Stage], Awaitable[dict[str, int]]]"
Allows: TypeAlias = "Callable[[Stage], bool]"


@dataclass(frozen=True, slots=True)
class Fault:
    """``act`` breaks something, leaves the sidecar running, and returns how many faults that were, by name. ``weight``:
    how often it comes, beside the others that the stage ``allows``."""

    name: str
    weight: int
    act: Act
    allows: Allows = lambda stage: True
