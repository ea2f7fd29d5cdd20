"""Sliding windows: never more than L units in any interval of length W. Pure arithmetic; time is an argument.

Units admitted close together form a cell: a cell opens with its first unit, takes what comes within W/60 of it, and is
forgotten as a whole once W has passed since its *last* unit. So

- a unit is counted for at least W: no half-open interval [t, t + W) ever holds more than L;
- a unit is counted for less than W + W/60: at a steady stream at least 60/61 of L can be used, and a lone burst is
  forgotten exactly W after its last unit (cells on a fixed grid hold it up to W/60 longer);
- at most 62 cells are alive, whatever the rate, and an idle window has none.

Bytes per window are measured in ``sidecar.admission.buckets``.
"""

CELLS = 60
_RETIRED = -1


class Window:
    """One counter. ``used`` and ``next_ns`` are plain fields, so that a caller with many windows can decide over all of
    them before it commits any::

        if now >= window.next_ns: window.expire(now)
        if window.used + n <= window.limit: window.take(now, n)

    ``limit`` may be set at any time and holds from the next check; what was used stays. ``next_ns``: before that moment
    nothing is forgotten (monotonic nanoseconds). All ``now`` are monotonic nanoseconds that never go back.
    """

    __slots__ = ("_last_ns", "_older", "_open_units", "_open_until", "cell_ns", "limit", "next_ns", "used", "window_ns")

    def __init__(self, limit: int, window_ns: int, now: int) -> None:
        if limit < 0 or window_ns < 1:
            raise ValueError("a window needs a limit of 0 or more and a length of at least 1 ns")
        self.limit = limit
        self.window_ns = window_ns
        self.cell_ns = window_ns // CELLS or 1
        self.used = 0
        self.next_ns = now + window_ns
        self._open_until = now  # no cell is open
        self._open_units = 0
        self._last_ns = now
        # Forget-at, units, forget-at, units, ..., oldest first. A list: a deque costs 0.6 kB when it holds one cell,
        # and taking 2 of at most 124 numbers off a list's front moves less than 1 kB.
        self._older: list[int] | None = None

    def expire(self, now: int) -> bool:
        """Forgets what is older than the window. False when this window was retired and must be looked up again."""
        if self.limit < 0:
            return False
        older = self._older
        if now >= self._last_ns + self.window_ns:
            self.used = self._open_units = 0
            self._open_until = now
            self._older = None
            self.next_ns = now + self.window_ns
            return True
        while older and older[0] <= now:
            self.used -= older[1]
            del older[:2]
        self.next_ns = older[0] if older else self._last_ns + self.window_ns
        return True

    def fits(self, now: int, n: int) -> bool:
        """Whether ``n`` units would be admitted now. Changes nothing that can be seen."""
        if now >= self.next_ns:
            self.expire(now)
        return self.used + n <= self.limit

    def take(self, now: int, n: int) -> None:
        """Counts ``n`` units. The caller has asked ``fits`` at the same ``now``."""
        if now < self._open_until:
            self._open_units += n
        else:
            self._open_cell(now, n)
        self._last_ns = now
        self.used += n

    def take_from(self, at: int, n: int) -> None:
        """Counts ``n`` units as if they were taken at ``at``, which may lie ahead, or when the last ones were, should
        that be later still: cells are forgotten in the order in which they were opened."""
        self.take(max(at, self._last_ns), n)

    def _open_cell(self, now: int, n: int) -> None:
        if self._open_units:
            if self._older is None:
                self._older = []
            self._older += (self._last_ns + self.window_ns, self._open_units)
        elif not self.used:
            self.next_ns = now + self.window_ns
        self._open_units = n
        self._open_until = now + self.cell_ns

    def give_back(self, now: int, at: int, n: int) -> None:
        """Forgets up to ``n`` units that were taken at ``at`` and never used; nothing when they no longer count."""
        if at + self.window_ns <= now:
            return
        older = self._older
        if older is not None:
            for i in range(0, len(older), 2):
                if older[i] >= at + self.window_ns:  # the first cell whose last unit is not older than ``at``
                    back = min(n, older[i + 1])
                    older[i + 1] -= back
                    self.used -= back
                    return
        if at <= self._last_ns:
            back = min(n, self._open_units)
            self._open_units -= back
            self.used -= back

    def used_at(self, now: int) -> int:
        """Units that count now."""
        self.expire(now)
        return self.used

    def retry_at_ns(self, now: int, n: int) -> int | None:
        """The earliest moment at which ``n`` units are admitted if nothing else happens; None when they never are,
        because they weigh more than the limit."""
        if n > self.limit:
            return None
        self.expire(now)
        short = self.used + n - self.limit
        if short <= 0:
            return now
        pairs = iter(self._older or ())
        for forget_at, units in zip(pairs, pairs, strict=True):
            short -= units
            if short <= 0:
                return forget_at
        return self._last_ns + self.window_ns

    def reset_ns(self, now: int) -> int:
        """Nanoseconds until the oldest units that count are forgotten; 0 when none count."""
        self.expire(now)
        return self.next_ns - now if self.used else 0

    def idle(self, now: int) -> bool:
        """Whether nothing was taken, and the window was not made, within the last W."""
        return now >= self._last_ns + self.window_ns

    def reshape(self, window_ns: int, now: int) -> None:
        """Changes the length. What still counts is kept and forgotten ``window_ns`` after it was taken: a longer window
        counts it longer, a shorter one shorter; what was already forgotten stays so."""
        if window_ns < 1:
            raise ValueError("a window needs a length of at least 1 ns")
        # Nothing is expired by the old length first: what it would forget only now may count in a longer one.
        by = window_ns - self.window_ns
        pairs = iter(self._older or ())
        moved = [part for at, units in zip(pairs, pairs, strict=True) for part in (at + by, units)]
        self._older = moved or None
        self.window_ns = window_ns
        self.cell_ns = window_ns // CELLS or 1
        self._open_until = now  # the next unit opens a cell of the new length
        self.expire(now)

    def retire(self) -> None:
        """Marks the window as no longer in any table: ``expire`` is due at every check, and answers False."""
        self.limit = _RETIRED
        self.next_ns = _RETIRED
