"""One metric."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sidecar.admin.rows import Row
from sidecar.admin.sources import Readings


@dataclass(frozen=True, slots=True)
class Family:
    """One metric without its prefix ``sidecar_``. ``read`` gives label values and the number of every sample."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[Readings], Iterable[Row]]
    unit: str = ""
