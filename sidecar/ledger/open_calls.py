"""The calls that began and whose end is not written, so that what stands of them in a segment can outlive it."""

from mypy_extensions import i64

from sidecar.ledger.entry import Entry


class OpenCalls:
    """In the order of their ``segment``; behind them those that have no record yet. Each leads to its neighbours: a
    list would grow anew in each turn, and one that leaves in the middle needs no search.

    ``waiting``: the first one that has no record yet. ``ended``: the first whose done record is to be written.
    """

    __slots__ = ("_last_ended", "_newest", "_oldest", "count", "ended", "waiting")

    def __init__(self) -> None:
        self._oldest: Entry | None = None
        self._newest: Entry | None = None
        self._last_ended: Entry | None = None
        self.waiting: Entry | None = None
        self.ended: Entry | None = None
        self.count: i64 = 0

    def add(self, call: Entry) -> None:
        """A call that begins."""
        self._link(self._newest, call)
        self._newest = call
        if self.waiting is None:
            self.waiting = call
        self.count += 1

    def written(self, call: Entry, segment: i64) -> None:
        """The first record of the one that was ``waiting`` stands in ``segment`` or behind it."""
        call.segment = segment if call.segment > 0 else -segment
        self.waiting = call.newer

    def move(self, call: Entry, segment: i64) -> None:
        """A newer record of one that does not wait stands in ``segment``, behind all others, and makes older ones
        needless."""
        self._unlink(call)
        call.segment = segment if call.segment > 0 else -segment
        newer = self.waiting
        self._link(self._newest if newer is None else newer.older, call)
        self._link(call, newer)

    def end(self, call: Entry) -> None:
        """It is done, which is to be written."""
        call.segment = -call.segment
        last = self._last_ended
        if last is None:
            self.ended = call
        else:
            last.behind = call
        self._last_ended = call

    def remove(self, call: Entry) -> None:
        """The done record of the one that was ``ended`` is written."""
        self._leave(call)
        self._unlink(call)
        call.segment = 0
        self.count -= 1

    def reopen(self, call: Entry) -> None:
        """The done record of the one that was ``ended`` cannot be written: it is open as before."""
        self._leave(call)
        call.segment = -call.segment

    def standing_in(self, segment: i64) -> Entry | None:
        """One whose newest record may stand in ``segment`` or before it, if there is one."""
        oldest = self._oldest
        return oldest if oldest is not None and -segment <= oldest.segment <= segment else None

    def _leave(self, call: Entry) -> None:
        self.ended = call.behind
        call.behind = None
        if self.ended is None:
            self._last_ended = None

    def _unlink(self, call: Entry) -> None:
        self._link(call.older, call.newer)
        call.older = call.newer = None

    def _link(self, older: Entry | None, newer: Entry | None) -> None:
        """Makes them neighbours; None is the end on that side."""
        if older is None:
            self._oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self._newest = older
        else:
            newer.older = older
