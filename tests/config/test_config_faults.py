"""One broken file per fault in tests/policies: its first comment lines are all that is told, with line and path."""

from pathlib import Path

import pytest

from sidecar.config import Overrides, load
from sidecar.core.errors import ConfigError

BROKEN = Path(__file__).parents[1] / "policies"
FILES = sorted(BROKEN.glob("*.yaml"))
MARK = "# expect: "


def expected(path: Path) -> list[str]:
    """What the head of a broken file says: ``LINE: path: message``, or a whole fault that stands elsewhere."""
    lines = path.read_text().splitlines()
    return [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_broken_file_is_told_as_its_head_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fault names its line and what to write; unknown keys name the nearest right one (field bug 30)."""
    monkeypatch.chdir(BROKEN)
    given = None if "upstreams:" in path.read_text() or path.stem == "no_upstream" else "http://127.0.0.1:9000"
    with pytest.raises(ConfigError) as raised:
        load(Path(path.name), Overrides(upstream=given), {"SHORT": "tooshort", "HOME": "/root"})
    told = [str(fault).removeprefix(f"{path.name}:").strip() for fault in raised.value.faults]
    assert told == expected(path)
    assert told


def test_faults_are_different_ones() -> None:
    """Two files that say the same would prove nothing twice."""
    heads = ["\n".join(expected(path)) for path in FILES]
    assert len(heads) == len(set(heads)) > 100


def test_every_fault_at_once(tmp_path: Path) -> None:
    """Shape, reference and sense in several files: all are told in one go, in file order."""
    (tmp_path / "policies").mkdir()
    main = tmp_path / "sidecar.yaml"
    main.write_text("listne: 0.0.0.0:8080\ndrain: 5\nadmin: {token: ${UNSET}}\n")
    (tmp_path / "policies" / "a.yaml").write_text(
        "tenants: {acme: {plan: prro}}\nroutes: [{name: a, match: {path: x}}]\n"
    )
    (tmp_path / "policies" / "b.yaml").write_text(
        "plans:\n  pro:\n    limits:\n"
        "      - {name: a, limit: 100, window: 1s}\n      - {name: b, limit: 50, window: 1m}\n"
    )
    with pytest.raises(ConfigError) as raised:
        load(main, Overrides(upstream="http://127.0.0.1:9000"), {})
    told = [(Path(fault.file).name, fault.line) for fault in raised.value.faults]
    assert told == [
        ("a.yaml", 1),
        ("a.yaml", 2),
        ("b.yaml", 4),
        ("sidecar.yaml", 1),
        ("sidecar.yaml", 2),
        ("sidecar.yaml", 3),
    ]


def test_broken_definition_is_still_a_definition(tmp_path: Path) -> None:
    """A plan with a fault of its own is not also told as a plan nobody defined."""
    main = tmp_path / "sidecar.yaml"
    main.write_text("plans: {pro: {limits: [], test_keys: 5}}\ntenants: {acme: {plan: pro}}\n")
    with pytest.raises(ConfigError) as raised:
        load(main, Overrides(upstream="http://127.0.0.1:9000"), {})
    assert [fault.path for fault in raised.value.faults] == ["plans.pro.test_keys"]


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"listen: 0.0.0.0:8080\ndata: \xff\n", 2, "not UTF-8"),
        ("listen: 0.0.0.0:8080".encode("utf-16"), 1, "not UTF-8"),
        (b"", 1, "empty"),
        (b"\n# nothing\n", 1, "empty"),
        (b"a: \x00", 1, "U+0000"),
        (b"[" * 100_000, 1, "nested deeper"),
        (b"- " * 100_000, 1, "nested deeper"),
        (b"&a [*a]", 1, "is a list"),
        (b"x" * (16 * 1024 * 1024 + 1), 0, "larger than 16 MiB"),
        (b"data: " + b"x" * 5000, 1, "longer than 4,096"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_file_that_is_no_configuration(tmp_path: Path, data: bytes, line: int, words: str) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as raised:
        load(path, Overrides(upstream="http://127.0.0.1:9000"), {})
    assert [(fault.file, fault.line) for fault in raised.value.faults] == [(str(path), line)]
    assert words in raised.value.faults[0].message


def test_aliases_of_aliases_are_bounded(tmp_path: Path) -> None:
    """Ten thousand plans that repeat one plan of 256 features and 32 limits would be four million values."""
    limits = ", ".join("{name: a, limit: 0, window: 1s}" for _ in range(32))
    pairs = "\n".join(f"  p{n}: *plan" for n in range(9_999))
    many = tmp_path / "sidecar.yaml"
    features = ", ".join(f"f{n}" for n in range(256))
    many.write_text(f"plans:\n  first: &plan {{limits: [{limits}], features: [{features}]}}\n{pairs}\n")
    with pytest.raises(ConfigError, match="more than 1,000,000 values"):
        load(many, Overrides(upstream="http://127.0.0.1:9000"), {})


def test_unreadable_files(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path, Overrides(upstream="http://127.0.0.1:9000"), {})


def test_same_names_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    text = "plans: {pro: {limits: []}}\nmeters: {m: {count: requests}}\ntenants: {acme: {plan: pro}}\n"
    text += 'costs: {per_call: "0.01 USD"}\nroutes: [{name: a, match: {path: /a}}]\n'
    for name in ("a.yaml", "b.yml"):
        (tmp_path / "policies" / name).write_text(text)
    (tmp_path / "sidecar.yaml").write_text("policies: [policies, policies/a.yaml]\n")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "sidecar.yaml", Overrides(upstream="http://127.0.0.1:9000"), {})
    twice = [fault for fault in raised.value.faults if "twice" in fault.message]
    assert [(Path(fault.file).name, fault.line) for fault in twice] == [("b.yml", line) for line in (1, 2, 3, 4, 5)]
    assert all(f"a.yaml:{fault.line} too" in fault.message for fault in twice)


def test_command_line_faults_name_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        path = tmp_path / "sidecar.yaml"
        path.write_text("drain: 1s\n")
        load(path, Overrides(upstream="ftp://x", listen="8080", admin="1:2:3", data=" "), {})
    assert [fault.file for fault in raised.value.faults] == ["--admin", "--data", "--listen", "--upstream"]
