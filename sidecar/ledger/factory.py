"""Where a journal's segments come from: new files, or old ones used again."""

import errno
from pathlib import Path

from sidecar.core.policy import Concurrency, Limit, Quota, Snapshot
from sidecar.core.records import shadow_mark
from sidecar.ledger.ballast import Ballast
from sidecar.ledger.segment import EMPTYING, Segment

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class SegmentFactory:
    """Makes segments of ``size`` bytes in ``folder``, each numbered above the one before, from ``number`` on."""

    def __init__(self, folder: Path, size: int, *, named: bool) -> None:
        """``named``: names and contents have to outlast a power cut, so that only new files will do."""
        self._folder = folder
        self._size = size
        self._named = named
        self.number = 0
        for path in folder.glob("*" + EMPTYING):  # killed on the way from one life to the next
            path.unlink()

    def take_number(self) -> int:
        """The next segment's; to be called where segments are ordered, not in a thread."""
        number, self.number = self.number, self.number + 1
        return number

    def create(self, number: int) -> Segment:
        """A new file. OSError."""
        return Segment.create(self._folder, number, self._size, named=self._named)

    def create_at_once(self, ballast: Ballast | None) -> Segment:
        """The next one, a new file, for which ``ballast`` goes where the disk is full. OSError."""
        try:
            return self.create(self.take_number())
        except OSError as error:
            if ballast is None or error.errno not in NO_ROOM or not ballast.drop():
                raise
        return self.create(self.take_number())

    def again(self, old: Segment, number: int) -> Segment:
        """``old``, all of which is in the ledger, emptied; or a new file where that fails. OSError."""
        try:
            return old.again(number)
        except OSError:
            old.delete()
            return self.create(number)


def done_extra(snapshot: Snapshot) -> int:
    """By how many bytes a done record may be longer than its intent: an outcome, nine numbers of up to 20 digits, each
    meter once with a value and once as an anomaly, and a mark for each policy in shadow mode that a plan has."""
    marks = max((sum(map(_mark_bytes, plan.policies)) for plan in snapshot.plans.values()), default=0)
    return 256 + sum(2 * len(name) + 32 for name in snapshot.meters) + marks


def _mark_bytes(policy: Limit | Concurrency | Quota) -> int:
    return len(shadow_mark(policy.name)) if policy.mode == "shadow" else 0
