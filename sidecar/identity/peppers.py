"""Peppers: the secrets under which keys are digested, so that a stolen table of digests is of no use by itself."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from sidecar.core.errors import SidecarError
from sidecar.core.policy import ApiKeySettings
from sidecar.identity.secret_files import existing_secret_text, secret_text

_MIN_BYTES = 16
_UNKNOWN = b"\x00" * 32  # computes a digest in the usual time for a row whose pepper is gone; never accepted


class Peppers:
    """Pepper id to secret; the first makes new digests, all verify. Immutable; the secrets are in no repr."""

    __slots__ = ("_secrets", "current")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """SidecarError when there is none, or one is shorter than 16 bytes."""
        for pepper, secret in secrets.items():
            if len(secret.encode()) < _MIN_BYTES:
                raise SidecarError(f"the pepper {pepper!r} is shorter than {_MIN_BYTES} bytes; use a random one")
        if not secrets:
            raise SidecarError("at least one pepper is needed")
        self._secrets = {pepper: secret.encode() for pepper, secret in secrets.items()}
        self.current = next(iter(self._secrets))

    @classmethod
    def from_settings(cls, settings: ApiKeySettings, data_folder: str | os.PathLike[str]) -> "Peppers":
        """The configured peppers, then the one in ``<data>/pepper``, which is made when none is configured.

        The file still verifies after peppers were configured, so that moving to configured ones breaks no key. Its id
        is derived from the secret: a lost file shows as an unknown pepper id, not as keys that silently stopped.
        """
        path = Path(data_folder) / "pepper"
        found = dict(settings.peppers)
        local = existing_secret_text(path) if found else secret_text(path)
        if local is not None:
            found.setdefault(f"local-{hashlib.sha256(b'id' + local.encode()).hexdigest()[:8]}", local)
        return cls(found)

    def __repr__(self) -> str:
        return f"Peppers({', '.join(self._secrets)})"

    def knows(self, pepper: str) -> bool:
        """Whether digests under this id can be verified."""
        return pepper in self._secrets

    def digest(self, text: bytes) -> tuple[str, bytes]:
        """The current pepper's id and the digest of ``text`` under it, 32 bytes."""
        return self.current, self.digest_with(self.current, text)

    def derive(self, seed: bytes) -> int:
        """512 bits that only a holder of both the current pepper and ``seed`` can compute. No digest of a key is among
        what it is made of: a key begins with its brand, never with a NUL."""
        return int.from_bytes(hmac.digest(self._secrets[self.current], b"\0derive\0" + seed, "sha512"))

    def digest_with(self, pepper: str, text: bytes) -> bytes:
        """HMAC-SHA-256 of ``text`` under that pepper; of an unknown one a value that ``knows`` tells not to trust."""
        return digest(self._secrets.get(pepper, _UNKNOWN), text)


def digest(pepper: bytes, text: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104) of the whole key text, 32 bytes."""
    return hmac.digest(pepper, text, "sha256")
