"""The access log of one process, through reloads."""

import asyncio
from collections.abc import Callable

from sidecar.core.errors import SidecarError
from sidecar.core.policy import Settings
from sidecar.gateway import AccessLog, AccessWriter, Lane


class Access:
    """Where the lane's notes go; nothing without ``access_log:``."""

    def __init__(self) -> None:
        self._log: AccessLog | None = None
        self._writer: AccessWriter | None = None
        self._dropped_before = 0

    @property
    def dropped(self) -> int:
        """Lines that were not written since the start."""
        return self._dropped_before + (0 if self._log is None else self._log.dropped)

    async def prepare(self, settings: Settings) -> Callable[[Lane], None]:
        """Opens what ``settings`` say; what is returned brings it into force. SidecarError: it cannot be opened."""
        wanted, keys = settings.access_log, settings.identity.api_key
        writer = self._writer
        if writer is not None and self._log is not None and wanted == self._log.settings:
            return lambda lane: writer.reopen(keys)
        log = None if wanted is None else AccessLog(wanted)
        fresh = None if log is None else AccessWriter(log, keys)
        if fresh is not None:
            try:
                await asyncio.to_thread(fresh.start)
            except OSError as error:
                raise SidecarError(f"the access log cannot be opened: {error.strerror}: {error.filename}") from error

        def use(lane: Lane) -> None:
            lane.access = log
            self._dropped_before = self.dropped
            self._log, self._writer = log, fresh
            if writer is not None:
                lane.spawn(asyncio.to_thread(writer.close))

        return use

    async def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
