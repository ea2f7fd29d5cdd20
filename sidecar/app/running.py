"""One running sidecar in one process: the front and the office."""

from typing import Any

from sidecar.app.front import Front
from sidecar.app.office import Office
from sidecar.app.parts import close_store
from sidecar.app.sockets import close_all, place_of, shut_out
from sidecar.app.spending import SpendReading
from sidecar.billing import teller
from sidecar.config import Configuration
from sidecar.core.clock import Clock
from sidecar.core.policy import Snapshot


class App(Front, Office):
    """Everything in one process, the default."""

    def __init__(
        self,
        snapshot: Snapshot,
        clock: Clock | None = None,
        configuration: Configuration | None = None,
        **more: Any,
    ) -> None:
        """As of Office."""
        super().__init__(snapshot, clock, configuration=configuration, **more)

    @property
    def listening(self) -> tuple[str, str]:
        """The ``host:port`` of the lane and of the admin port, as bound."""
        return place_of(self._groups[0]), place_of(self._admin_sockets)

    async def _open(self) -> None:
        settings = self.snapshot.settings
        await self._open_stores(settings, settings.journal)
        await self._adopt()  # of the workers that there were before
        self._bind(settings)
        self._open_peppers()
        self._lookups = self._store
        self._totals = self._meter_total
        self._tell = teller(lambda: self.snapshot, self._store)
        self._spent = SpendReading(self._store, self._clock, self._caught_up).read
        self._books = self._store if settings.billing.stripe is not None else None
        await self._open_lane(self.snapshot, self._open_payments())
        await self._open_office(settings)
        await self._listen(settings, [sock for group in self._groups for sock in group])
        self._background(self._adopting())
        self._open_door()

    async def _last_ones(self) -> None:
        await shut_out(self._groups)

    def _drop_sockets(self) -> None:
        close_all(self._groups)

    async def release(self) -> None:
        self._draining = self._released = True
        await self._stop_accepting()
        await self._office.aclose()
        await self._shipper.stop()
        await close_store(self._store)

    def _unready(self) -> list[str]:
        pools = self._pools.current.items()
        return super()._unready() + [f"upstream {name} is not available" for name, pool in pools if not pool.available]
