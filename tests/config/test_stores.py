"""``storage: postgresql://``: the password comes from the environment, and is in no message and in nothing shown."""

from pathlib import Path

import pytest

from sidecar.config import Overrides, effective, load
from sidecar.core.errors import ConfigError

SECRET = "p@ss/w:rd#?%41 é"
ENCODED = "p%40ss%2Fw%3Ard%23%3F%2541%20%C3%A9"
ENVIRONMENT = {
    "PW": SECRET,
    "USER": "app",
    "HOST": "db.example",
    "EMPTY": "",
    "URL": "postgres://app:in%2Furl@db.example/usage",
    "MASKED": "covered",
}


def storage(folder: Path, written: str) -> str:
    (folder / "sidecar.yaml").write_text(f"storage: {written}\n")
    overrides = Overrides(upstream="http://127.0.0.1:9000")
    return load(folder / "sidecar.yaml", overrides, ENVIRONMENT).settings.storage


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("postgresql://app:${PW}@db:5432/usage", f"postgresql://app:{ENCODED}@db:5432/usage"),
        ("postgres://app:${PW}@db/usage", f"postgres://app:{ENCODED}@db/usage"),
        ("postgresql://${USER}:${PW}@${HOST}/usage", f"postgresql://app:{ENCODED}@db.example/usage"),
        ("${URL}", ENVIRONMENT["URL"]),
        ("${URL:-}", ENVIRONMENT["URL"]),
        ("postgresql://app@db/usage", "postgresql://app@db/usage"),
        ("postgresql://app:${EMPTY}@db/usage", "postgresql://app@db/usage"),
        ("postgresql://app@a:5432,b:5433/usage", "postgresql://app@a:5432,b:5433/usage"),
        ("postgresql://app@[::1]:5432/usage", "postgresql://app@[::1]:5432/usage"),
        ("postgresql://app@/usage?host=/run/postgresql", "postgresql://app@/usage?host=/run/postgresql"),
        (
            "postgresql://app:${PW}@db/usage?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            f"postgresql://app:{ENCODED}@db/usage?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        ),
    ],
)
def test_a_url_is_read_with_its_password_percent_encoded(tmp_path: Path, written: str, read: str) -> None:
    assert storage(tmp_path, f"'{written}'") == read


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("postgresql://app:hunter2@db/usage", "password in clear"),
        ("postgresql://app:hunter2${EMPTY}@db/usage", "password in clear"),
        ("postgresql://app:${NONE:-hunter2}@db/usage", "password in clear"),
        ("${NONE:-postgresql://app:hunter2@db/usage}", "password in clear"),
        ("postgresql://app@db/usage?password=hunter2", "password behind"),
        ("postgresql://app@db/usage?password=${PW}", "password behind"),
        ("postgresql://app:${PW}@db:54x2/usage", "no port"),
        ("postgresql://app:${PW}@db:99999/usage", "no port"),
        ("postgresql://app:${PW}@db", "no database"),
        ("postgresql://app:${PW}@db/", "no database"),
        ("postgresql://db/usage", "no user"),
        ("postgresql://app:${PW}@[db/usage", "no URL"),
        ("postgresql://app:${PW}@db/usage?sslmode=yes", "sslmode"),
        ("postgresql://app:${PW}@db/" + "x" * 1000, "longer"),
        ("mysql://app:hunter2@db/usage", "is no store"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(tmp_path: Path, written: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        storage(tmp_path, f"'{written}'")
    told = str(raised.value)
    assert "hunter2" not in told
    assert not any(part in told for part in (SECRET, ENCODED, "ss/w"))


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("postgresql://app:${PW}@db/usage", "postgresql://app:${MASKED}@db/usage"),
        ("${URL}", "postgres://app:${MASKED}@db.example/usage"),
        ("postgresql://app@db/usage", "postgresql://app@db/usage"),
    ],
)
def test_what_is_shown_is_masked_and_loads_again(tmp_path: Path, written: str, shown: str) -> None:
    (tmp_path / "sidecar.yaml").write_text(f"storage: '{written}'\n")
    overrides = Overrides(upstream="http://127.0.0.1:9000")
    text = effective(load(tmp_path / "sidecar.yaml", overrides, ENVIRONMENT))
    assert f"storage: {shown}\n" in text
    assert SECRET not in text
    assert "in%2Furl" not in text
    (tmp_path / "again.yaml").write_text(text)
    again = load(tmp_path / "again.yaml", Overrides(), ENVIRONMENT).settings
    assert again.storage == shown.replace("${MASKED}", "covered")
    assert "covered" not in repr(again)
