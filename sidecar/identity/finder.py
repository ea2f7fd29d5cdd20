"""Which credential a request brought. Runs for every request, so the usual case is its first branch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from sidecar.core.errors import Unauthenticated
from sidecar.core.policy import Identity

_AMBIGUOUS = "The request carries more than one key or token; send one."


@dataclass(slots=True)  # not frozen: that costs 0.4 us more per request (object.__setattr__); nobody assigns to it
class Found:
    """A credential. ``kind``: ``key``, ``jwt`` or ``certificate``, or ``tenant`` for none, but that tenant. ``where``:
    ``header``, ``bearer``, ``query`` or ``connection``.

    ``also``: the other places where the same text stood, so that every copy can be stripped.
    """

    kind: str
    secret: bytes = field(repr=False)
    where: str
    also: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of a certificate, and when it ends (Unix nanoseconds)
    ends_ns: int = 0
    fingerprint: bytes = field(default=b"", repr=False)  # the resolver's, once it has looked


class Finder:
    """Finds the credential as the identity settings say."""

    __slots__ = ("_bearer", "_prefix", "_query", "_tokens", "_usual_bearer")

    def __init__(self, identity: Identity) -> None:
        settings = identity.api_key
        self._prefix = f"{settings.brand}_".encode()
        self._bearer = settings.bearer
        self._usual_bearer: tuple[bytes, ...] = (b"Bearer " + self._prefix,) if settings.bearer else ()
        self._query = settings.query.encode() if settings.query is not None else None
        self._tokens = bool(identity.jwt)

    def find(self, api_key: Sequence[bytes], authorization: Sequence[bytes], query: bytes) -> Found | None:
        """The one credential, or None.

        ``api_key`` and ``authorization``: every value of these headers; ``query``: the raw query without ``?``.
        An empty value is none. The same text in several places is one credential. Authorization that is not ours is
        left alone. Unauthenticated (``credentials_ambiguous``) when two different ones were sent.
        """
        if len(api_key) == 1 and not authorization and (not query or self._query is None):
            secret = api_key[0].strip()
            return Found("key", secret, "header") if secret else None
        if not api_key and (not query or self._query is None):
            if not authorization:
                return None
            if len(authorization) == 1 and authorization[0].startswith(self._usual_bearer):
                return Found("key", authorization[0][7:].strip(), "bearer")
        return self._search(api_key, authorization, query)

    def without_key(self, query: bytes) -> bytes:
        """The raw query without the key's parameter, every other byte as it was."""
        if self._query is None:
            return query
        return b"&".join(part for part in query.split(b"&") if _name(part) != self._query)

    def _search(self, api_key: Sequence[bytes], authorization: Sequence[bytes], query: bytes) -> Found | None:
        places = [("key", value.strip(), "header") for value in api_key]
        for value in authorization:
            scheme, _, credential = value.strip().partition(b" ")
            if scheme.lower() == b"bearer" and (kind := self._kind(credential.strip())):
                places.append((kind, credential.strip(), "bearer"))
        if self._query is not None and query:
            places += [("key", _value(part), "query") for part in query.split(b"&") if _name(part) == self._query]
        places = [place for place in places if place[1]]
        if not places:
            return None
        kind, secret, where = places[0]
        if any(place[1] != secret for place in places):
            raise Unauthenticated("credentials_ambiguous", _AMBIGUOUS)
        also = tuple(dict.fromkeys(place[2] for place in places if place[2] != where))
        return Found(kind, secret, where, also)

    def _kind(self, credential: bytes) -> str | None:
        if self._bearer and credential.startswith(self._prefix):
            return "key"
        if self._tokens and credential.count(b".") == 2 and all(credential.split(b".")):
            return "jwt"
        return None


def _name(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" "))


def _value(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[2].replace(b"+", b" ")).strip()
