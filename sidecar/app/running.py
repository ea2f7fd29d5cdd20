"""One running sidecar in one process: the front and the office."""

from sidecar.app.front import Front
from sidecar.app.journals import recover_all
from sidecar.app.office import Office, bound
from sidecar.app.spending import SpendReading
from sidecar.billing import teller
from sidecar.config import Configuration
from sidecar.core.clock import Clock
from sidecar.core.policy import Snapshot


class App(Front, Office):
    """Everything in one process, the default."""

    def __init__(
        self, snapshot: Snapshot, clock: Clock | None = None, configuration: Configuration | None = None
    ) -> None:
        """``configuration``: where ``snapshot`` came from; None: it stays as it is."""
        super().__init__(snapshot, clock, configuration=configuration)

    @property
    def listening(self) -> tuple[str, str]:
        """The ``host:port`` of the lane and of the admin port, as bound."""
        return bound(self._lane_runner), bound(self._admin_runner)

    async def _open(self) -> None:
        settings = self.snapshot.settings
        await self._open_stores(settings, settings.journal)
        await recover_all(self.snapshot, self._clock, self._store)  # of the workers that there were before
        self._open_peppers()
        self._lookups = self._store
        self._totals = self._meter_total
        self._tell = teller(lambda: self.snapshot, self._store)
        self._spent = SpendReading(self._store, self._clock, self._caught_up).read
        self._books = self._store if settings.billing.stripe is not None else None
        await self._open_lane(self.snapshot, self._open_payments())
        self._open_billing()
        await self._open_admin(settings)
        await self._listen(settings)
        self._background(self.reloads.watch())

    def _unready(self) -> list[str]:
        pools = self._pools.current.items()
        return super()._unready() + [f"upstream {name} is not available" for name, pool in pools if not pool.available]
