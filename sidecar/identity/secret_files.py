"""Secrets that are made once and kept in the data folder, readable by their owner alone.

A file appears whole or not at all: it is written and fsynced under a private name (O_EXCL, mode 0600) and then linked
to its own name, which fails when another process was first; everybody then loads what stands there.
"""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.core.errors import SidecarError
from sidecar.identity.base62 import CHECK_CHARS, checksum, is_base62, random_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SECRET_CHARS = 43  # 256 bits
_MAX_BYTES = 4096


def admin_token(data_folder: str | os.PathLike[str]) -> str:
    """The admin token in ``<data>/admin.token``, made at first. SidecarError when the file cannot be trusted."""
    return secret_text(Path(data_folder) / "admin.token")


def secret_text(path: Path) -> str:
    """A 256-bit secret with its checksum, 49 base62 characters, made when there is no such file."""
    return _parse_secret(path, load_or_make(path, _new_secret))


def existing_secret_text(path: Path) -> str | None:
    """As ``secret_text``, but None when there is no such file."""
    content = _load(path)
    return None if content is None else _parse_secret(path, content)


def signing_key(data_folder: str | os.PathLike[str]) -> "Ed25519PrivateKey":
    """The Ed25519 key that signs for the upstream, PKCS#8 PEM in ``<data>/identity.key``, made at first."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = Path(data_folder) / "identity.key"
    content = load_or_make(path, _new_signing_key)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SidecarError(
            f"{path} is not an unencrypted Ed25519 key in PEM; restore it, or remove it to make a new one"
        )
    return key


def load_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """The file's bytes, after making it when it was not there. SidecarError says what is wrong and what to do."""
    content = _load(path)
    if content is None:
        try:
            _create(path, make())
        except OSError as error:
            raise SidecarError(f"{path} cannot be made: {error.strerror or error}") from error
        content = _load(path)
    if content is None:
        raise SidecarError(f"{path} was removed while it was being made; start again")
    return content


def _load(path: Path) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hang the start
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SidecarError(f"{path} cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise SidecarError(f"{path} is not a file; move it away")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise SidecarError(f"{path} holds a secret and others may open it (mode {mode:04o}); chmod 600 it")
        content = os.read(handle, _MAX_BYTES + 1)
    except OSError as error:
        raise SidecarError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)
    if len(content) > _MAX_BYTES:
        raise SidecarError(f"{path} is larger than {_MAX_BYTES} bytes, so it is not what was written there; restore it")
    return content


def _create(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first; its secret is the one
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _new_secret() -> bytes:
    text = random_text(_SECRET_CHARS).encode()
    return text + checksum(text) + b"\n"


def _parse_secret(path: Path, content: bytes) -> str:
    text = content.strip()
    if (
        len(text) != _SECRET_CHARS + CHECK_CHARS
        or not is_base62(text)
        or checksum(text[:-CHECK_CHARS]) != text[-CHECK_CHARS:]
    ):
        raise SidecarError(f"{path} is damaged or cut short; restore it from a backup, or remove it to make a new one")
    return text.decode("ascii")


def _new_signing_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
