"""The container image's promises: read from the Dockerfile, and tried on the wheel that the image is made of."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.process import READY, call

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of each, continuation lines joined."""
    text = re.sub(
        r"\\\n\s*", " ", "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:1] != "#")
    )
    return [
        (word.upper(), rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def final_stage() -> list[tuple[str, str]]:
    lines = instructions()
    last = max(index for index, (word, _) in enumerate(lines) if word == "FROM")
    return lines[last:]


def one(word: str) -> str:
    found = [rest for name, rest in final_stage() if name == word]
    assert len(found) == 1, f"{word}: {found}"
    return found[0]


def test_the_last_stage_only_copies_what_was_built() -> None:
    assert [word for word, _ in instructions()].count("FROM") == 2
    copies = [rest for word, rest in final_stage() if word == "COPY"]
    assert copies
    assert all(rest.startswith("--from=builder ") for rest in copies)
    assert not any("pip" in rest for word, rest in final_stage() if word == "RUN")


def test_it_runs_as_nobody_in_particular() -> None:
    """By number, so that an orchestrator can prove that it is not root."""
    assert int(one("USER")) >= 1000


def test_it_starts_the_sidecar() -> None:
    assert json.loads(one("ENTRYPOINT")) == ["sidecar"]
    assert json.loads(one("CMD")) == ["run"]
    assert one("VOLUME") == "/data"
    assert one("STOPSIGNAL") == "SIGTERM"


def test_development_dependencies_stay_out() -> None:
    builder = " ".join(rest for word, rest in instructions() if word == "RUN")
    assert "[dev]" not in builder
    assert builder.count("-c constraints.txt") == 2
    assert "--no-index" in builder


def test_what_is_copied_is_not_ignored() -> None:
    """.dockerignore starts from nothing and lets in what COPY names."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    named = [
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert set(named) <= allowed
    assert all((ROOT / name).exists() for name in named)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked, with nothing writable in it."""
    wheels = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "sidecar"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    words = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(wheels),
    ]
    subprocess.run([*words, str(source)], check=True, capture_output=True, timeout=120)
    tree = tmp_path_factory.mktemp("tree")
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree)
    subprocess.run(["chmod", "-R", "a-w,a+rX", str(tree)], check=True)
    return tree


def test_the_wheel_holds_all_of_the_package_and_nothing_else(tree: Path) -> None:
    packed = {path.relative_to(tree) for path in (tree / "sidecar").rglob("*") if path.is_file()}
    source = {
        path.relative_to(ROOT)
        for path in (ROOT / "sidecar").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source
    assert [path.name for path in tree.iterdir() if path.suffix != ".dist-info"] == ["sidecar"]


def healthcheck(admin: str) -> int:
    words = json.loads(one("HEALTHCHECK").partition("CMD ")[2])
    environment = os.environ | {"SIDECAR_ADMIN": admin}
    return subprocess.run(
        [sys.executable, *words[1:]], env=environment, timeout=30, check=False, capture_output=True
    ).returncode


@pytest.fixture
def process(tree: Path, tmp_path: Path, api: Api) -> Iterator[subprocess.Popen[str]]:
    """The wheel's command, started as the image does: from a folder it cannot write, with one for data."""
    data, app = tmp_path / "data", tmp_path / "app"
    data.mkdir()
    app.mkdir()
    (app / "data").symlink_to(data)
    app.chmod(0o555)
    code = "import sys; from sidecar.cli import main; sys.exit(main())"
    words = ["run", "--upstream", api.url, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=app,
        env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"},
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        yield running
        running.kill()


def test_it_runs_from_a_tree_that_is_read_only(process: subprocess.Popen[str], tree: Path, tmp_path: Path) -> None:
    """Everything that is written goes to /data; the health check of the image says 0, and 1 once it is gone."""
    assert process.stdout is not None
    before = sorted(path for path in tree.rglob("*"))
    match = READY.match(process.stdout.readline().rstrip())
    assert match is not None
    assert call(match[1], "GET", "/").status == 401
    assert healthcheck(match[4]) == 0
    process.terminate()
    assert process.wait(60) == 0
    assert healthcheck(match[4]) != 0
    assert sorted(path for path in tree.rglob("*")) == before
    assert [path.name for path in (tmp_path / "app").iterdir()] == ["data"]
    assert list((tmp_path / "data").iterdir())
