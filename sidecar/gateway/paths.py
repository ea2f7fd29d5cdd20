"""The beginning of a path in another's place, every other byte as it came; never a join of URLs."""

from sidecar.http1 import read_path


class PathEdit:
    """Takes ``strip`` off the beginning of a target and puts ``put`` there. Both are empty or begin with a slash."""

    __slots__ = ("_put", "_strip")

    def __init__(self, strip: str, put: str) -> None:
        self._strip = strip.encode()
        self._put = put.encode()

    def apply(self, target: bytes) -> bytes:
        """The target for the upstream; ``target`` fits, a query may follow."""
        if target == b"*":
            return target  # OPTIONS * asks about the server, not about a path
        made = self._put + target[len(self._strip) :]
        return made if made[:1] == b"/" else b"/" + made

    def fits(self, path: bytes) -> bool:
        """Whether the raw ``path`` means the same below the new beginning as it did below the old one.

        ``/api/../api/x`` means ``/api/x``, but ``/v2/../api/x`` does not mean ``/v2/x``; and a beginning that is
        escaped is not there to be taken off.
        """
        if path == b"*":
            return True
        before, after = read_path(path), read_path(self.apply(path))
        return (
            self._below(path)
            and self._moved(before.path, after.path)
            and self._moved(before.other or before.path, after.other or after.path)
        )

    def _below(self, path: bytes) -> bool:
        return path.startswith(self._strip) and path[len(self._strip) : len(self._strip) + 1] in (b"", b"/")

    def _moved(self, before: bytes, after: bytes) -> bool:
        return self._below(before) and self.apply(before) == after
