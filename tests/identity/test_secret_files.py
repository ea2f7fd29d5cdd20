import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sidecar.core.errors import SidecarError
from sidecar.core.policy import ApiKeySettings
from sidecar.identity import Peppers, admin_token, signing_key


@pytest.mark.parametrize("name", ["admin.token", "pepper", "identity.key"])
def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path, name: str) -> None:
    data = tmp_path / "new" / "data"
    first = _use(name, data)
    path = data / name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [child.name for child in data.iterdir()] == [name]
    assert _use(name, data) == first
    assert _use(name, tmp_path / "elsewhere") != first


@pytest.mark.parametrize("name", ["admin.token", "pepper", "identity.key"])
def test_processes_that_start_at_once_agree(tmp_path: Path, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: _use(name, tmp_path), range(16)))) == 1
    assert [child.name for child in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["admin.token", "pepper", "identity.key"])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, name: str) -> None:
    _use(name, tmp_path)
    (tmp_path / name).chmod(0o640)
    with pytest.raises(SidecarError, match=r"mode 0640\); chmod 600"):
        _use(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in ("admin.token", "pepper", "identity.key")
        for damage in ("empty", "short", "flipped", "binary", "huge")
        if (name, damage) != ("identity.key", "flipped")  # PEM has no checksum, and any 32 bytes are an Ed25519 key
    ],
)
def test_a_damaged_file_is_refused_kept_and_not_shown(tmp_path: Path, name: str, damage: str) -> None:
    _use(name, tmp_path)
    path = tmp_path / name
    good = path.read_bytes()
    middle = len(good) // 2
    bad = {
        "empty": b"",
        "short": good[:middle],
        "flipped": good[:middle] + (b"A" if good[middle : middle + 1] != b"A" else b"B") + good[middle + 1 :],
        "binary": os.urandom(49).replace(b"\n", b"\0"),
        "huge": good * 200,
    }[damage]
    path.write_bytes(bad)
    with pytest.raises(SidecarError, match="restore it") as refusal:
        _use(name, tmp_path)
    assert path.read_bytes() == bad
    assert good.decode().strip()[:20] not in str(refusal.value).replace("-----BEGIN", "")


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pepper").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "admin.token", 0o600)
    for name in ("pepper", "admin.token"):
        with pytest.raises(SidecarError, match="is not a file"):
            _use(name, tmp_path)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SidecarError, match="cannot be"):
        admin_token(tmp_path / "file" / "data")


def test_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "identity.key"
    path.touch(0o600)
    path.write_bytes(pem)
    with pytest.raises(SidecarError, match="not an unencrypted Ed25519 key"):
        signing_key(tmp_path)


def test_configured_peppers_come_first_and_the_file_still_verifies(tmp_path: Path) -> None:
    """Keys rotate without an outage (awslabs/aws-api-gateway-developer-portal#162); so do the peppers under them."""
    before = Peppers.from_settings(ApiKeySettings(), tmp_path)
    pepper, digest = before.digest(b"a key")
    both = Peppers.from_settings(ApiKeySettings(peppers={"new": "n" * 20, "old": "o" * 20}), tmp_path)
    assert both.current == "new"
    assert both.knows("old")
    assert both.digest_with(pepper, b"a key") == digest
    assert both.digest(b"a key") != (pepper, digest)


def test_configured_peppers_make_no_file(tmp_path: Path) -> None:
    assert Peppers.from_settings(ApiKeySettings(peppers={"new": "n" * 20}), tmp_path).current == "new"
    assert list(tmp_path.iterdir()) == []


def test_a_pepper_that_is_short_or_missing_is_refused() -> None:
    with pytest.raises(SidecarError, match="'weak' is shorter than 16") as refusal:
        Peppers({"weak": "hunter2"})
    assert "hunter2" not in str(refusal.value)
    with pytest.raises(SidecarError, match="at least one"):
        Peppers({})


def _use(name: str, data: Path) -> object:
    if name == "admin.token":
        return admin_token(data)
    if name == "identity.key":
        return signing_key(data).private_bytes_raw()
    return Peppers.from_settings(ApiKeySettings(), data).digest(b"x")
