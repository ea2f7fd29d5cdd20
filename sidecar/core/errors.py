"""The error tree. A refusal of a request is a value (``Decision``, ``Problem``); these are failures.

::

    SidecarError
    ├── ConfigError         the configuration has faults (all of them, in ``faults``); exit code 2
    ├── Unauthenticated     no principal could be made of the credentials; ``reason`` is safe to show
    ├── UpstreamError       the upstream could not be asked or its answer cannot be trusted
    ├── StoreError          a store failed
    │   ├── StoreDown       it does not answer; the same may work later
    │   ├── StoreFull       its disk is full
    │   ├── StoreLocked     another process is the writer of this store
    │   ├── NotFound        what was named does not exist
    │   └── Conflict        what was to be made exists already
    └── JournalFull         the journal reached its bound; nothing billable may be served
"""

from dataclasses import dataclass


class SidecarError(Exception):
    """Root of all failures this project raises on purpose; its text is for people and holds no secret."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong in the configuration: where it stands, what is wrong and what to write instead."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class ConfigError(SidecarError):
    """The configuration cannot be used; ``faults`` holds every fault found, in file order."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = sorted(set(faults))
        super().__init__("\n".join(map(str, self.faults)))


class Unauthenticated(SidecarError):
    """The credentials make no principal. ``reason`` is one of the words documented in docs/errors.md; ``retry_s``: when
    another attempt is looked at, where it is time that decides."""

    def __init__(self, reason: str, detail: str, retry_s: int | None = None) -> None:
        self.reason = reason
        self.detail = detail
        self.retry_s = retry_s
        super().__init__(detail)


class UpstreamError(SidecarError):
    """The upstream failed.

    ``kind``: connect, connect_timeout, first_byte_timeout, idle_timeout, total_timeout, reset, bad_response, busy or
    open (breaker).
    """

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(detail)


class StoreError(SidecarError):
    """A store failed; the text says which and why."""


class StoreDown(StoreError):
    """The store does not answer now; the same request may work later."""


class StoreFull(StoreError):
    """The store's disk is full."""


class StoreLocked(StoreError):
    """Another process writes to this store."""


class NotFound(StoreError):
    """What was named does not exist."""


class Conflict(StoreError):
    """What was to be made exists already."""


class JournalFull(SidecarError):
    """The journal reached its bound in bytes, or its disk is full."""
