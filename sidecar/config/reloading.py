"""One process's configuration, to be read again and again: what changed, and what only a new process can take."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from sidecar.config.loading import DEFAULT_FILE, Overrides, read_snapshot
from sidecar.config.reading import Reading, Stamp, stamp
from sidecar.config.settings import TOP
from sidecar.core.errors import ConfigError, Fault
from sidecar.core.policy import Settings, Snapshot

# The settings that a reload brings into force, beside everything that is no setting (policies, upstreams). Sockets,
# stores and the journal are opened once.
RELOADED = frozenset(
    {"identity", "bounds", "trusted_proxies", "tls", "access_log", "cors", "addresses", "drain_ns", "watch_ns"}
)
_KEYS = {attr: entry.key for entry in TOP for attr in entry.attrs}


class Configuration:
    """Where the configuration of one process comes from. Not for several threads at once."""

    def __init__(self, path: Path | None, overrides: Overrides, environ: Mapping[str, str]) -> None:
        self._path = path
        self._overrides = overrides
        self._environ = environ
        self._seen: dict[Path, Stamp] = {}
        self._looked: dict[Path, Stamp] = {}

    def load(self, current: Snapshot | None = None) -> Snapshot:
        """What the files say now. ConfigError with every fault, and with what differs from ``current`` although only a
        new process can take it."""
        reading = Reading(self._environ, main=str(self._path or DEFAULT_FILE))
        try:
            snapshot = read_snapshot(self._path, self._overrides, reading)
        finally:
            self._seen = self._looked = reading.seen
        if current is not None:
            for attribute, key in _fixed(current, snapshot):
                message = "only a new process can take this change; restart, or write what was there before"
                line, path = reading.places[id(snapshot.settings)].fields.get(attribute, (0, key))
                reading.faults.append(Fault(reading.main, line, path, message))
        if reading.faults:
            raise ConfigError(reading.faults)
        return snapshot

    def settled(self) -> bool:
        """Whether what was read has changed since, and not since the last call: nobody is in the middle of writing."""
        before, self._looked = self._looked, {path: stamp(path) for path in self._seen}
        return before == self._looked != self._seen


def _fixed(before: Snapshot, after: Snapshot) -> Iterator[tuple[str, str]]:
    old, new = before.settings, after.settings
    if new.billing.reports and _events(before) != _events(after):
        yield "meters", "meters: which of them are reported, and how"
    for attribute in Settings.__dataclass_fields__:
        if attribute not in RELOADED and getattr(old, attribute) != getattr(new, attribute):
            yield attribute, _KEYS.get(attribute, attribute)
    if (old.tls is None) != (new.tls is None):
        yield "tls", "tls"
    if old.identity.upstream_jwt != new.identity.upstream_jwt:
        yield "identity", "identity"


def _events(snapshot: Snapshot) -> set[tuple[str, str | None, str]]:
    return {
        (meter.name, meter.stripe_event, meter.stripe_window)
        for meter in snapshot.meters.values()
        if meter.stripe_event
    }
