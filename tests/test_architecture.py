"""The house rules of ``sidecar/__init__.py``, read from the source: imports, sizes, names, clocks and prints."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "sidecar"
FLOORS = (
    frozenset({"core"}),
    frozenset({"http1"}),
    frozenset({"identity", "admission", "upstream", "metering", "ledger", "billing", "storage"}),
    frozenset({"gateway", "admin"}),
    frozenset({"config"}),
    frozenset({"app"}),
    frozenset({"serve"}),
    frozenset({"cli"}),
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
PLAIN = frozenset({"core"})  # entered by module, not through a door
ONLY_APP = frozenset({"storage"})
NO_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "misc"})
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
LONG: dict[str, str] = {}  # "room/module.py" or "room/module.py:function" to the reason why it is one piece
PRINTS = frozenset({"cli"})
PURE = frozenset({"http1"})
COMPILER = frozenset({"librt", "mypy_extensions"})  # mypyc makes machine code of them; part of the language
PURE_THIRD_PARTY = frozenset({"httptools"})  # a parser without I/O
IMPURE_STDLIB = frozenset({"asyncio", "socket", "ssl", "threading", "subprocess", "selectors", "time", "select"})
# Reads of the clock beside core.clock: "room/module.py" to the reason.
CLOCKS: dict[str, str] = {}
CLOCK_CALLS = frozenset({"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"})


@dataclass(frozen=True)
class Module:
    """A source file: ``path`` relative to the package, with ``/``; ``tree`` its syntax."""

    path: str
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        return self.path.split("/")[0].removesuffix(".py")

    @property
    def dotted(self) -> str:
        parts = ["sidecar", *self.path.removesuffix(".py").split("/")]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read(root: Path) -> list[Module]:
    modules = []
    for file in sorted(root.rglob("*.py")):
        text = file.read_text()
        modules.append(Module(file.relative_to(root).as_posix(), ast.parse(text), text.count("\n")))
    return modules


def imports(module: Module) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(line, absolute dotted module, names taken from it) of every import, those inside functions too."""
    package = module.dotted if module.path.endswith("__init__.py") else module.dotted.rpartition(".")[0]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield node.lineno, ".".join([*base, *filter(None, [node.module])]), tuple(a.name for a in node.names)


def import_faults(module: Module, root: Path) -> Iterator[str]:
    for line, target, names in imports(module):
        where = f"{module.path}:{line}"
        top = target.split(".")[0]
        if top != "sidecar":
            if module.room == "core" and top not in sys.stdlib_module_names | COMPILER:
                yield f"{where}: core imports {target}; it has the standard library only"
            if module.room in PURE and (
                top in IMPURE_STDLIB or (top not in sys.stdlib_module_names and top not in PURE_THIRD_PARTY)
            ):
                yield f"{where}: {module.room} is pure and imports {target}"
            continue
        for inner in [target] if target != "sidecar" else [f"sidecar.{name}" for name in names]:
            yield from room_faults(module, where, inner, names if inner == target else (), root)


def room_faults(module: Module, where: str, target: str, names: tuple[str, ...], root: Path) -> Iterator[str]:
    if target == "sidecar":
        return
    room = target.split(".")[1]
    if room == module.room or module.path == "__init__.py":
        return
    if room not in HEIGHT or module.room not in HEIGHT:
        yield f"{where}: {module.room} and {room} must both be rooms of the house"
        return
    if room in ONLY_APP and module.room != "app":
        yield f"{where}: only app goes down to {room}"
    if HEIGHT[room] >= HEIGHT[module.room]:
        yield f"{where}: {module.room} imports {room}, which is not on a floor below it"
    beside = target.count(".") > 1 or any(
        (root / room / f"{name}.py").exists() or (root / room / name).is_dir() for name in names
    )
    if beside and room not in PLAIN:
        yield f"{where}: {target} passes by the door; import from sidecar.{room}"


def size_faults(module: Module) -> Iterator[str]:
    if module.lines > MAX_FILE_LINES and module.path not in LONG:
        yield f"{module.path}: {module.lines} lines, at most {MAX_FILE_LINES}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES and f"{module.path}:{node.name}" not in LONG:
                yield f"{module.path}:{node.lineno}: {node.name} has {lines} lines, at most {MAX_FUNCTION_LINES}"


def name_faults(module: Module) -> Iterator[str]:
    for part in module.path.removesuffix(".py").split("/"):
        if NO_NAMES.intersection(part.split("_")):
            yield f"{module.path}: {part!r} names nothing"


def habit_faults(module: Module) -> Iterator[str]:
    clock_names = {
        name
        for _, target, names in imports(module)
        if target == "time"
        for name in names
        if name in CLOCK_CALLS | {"sleep"}
    }
    # sleep(0) does not sleep: a thread lets the others run.
    yields = {
        id(node.func)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and [ast.dump(a) for a in node.args] == [ast.dump(ast.Constant(0))]
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name) and node.id == "print" and module.room not in PRINTS:
            yield f"{module.path}:{node.lineno}: print belongs to the commands"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
            name = node.attr
        elif isinstance(node, ast.Name) and node.id in clock_names:
            name = node.id
        else:
            continue
        if name == "sleep" and id(node) not in yields:
            yield f"{module.path}:{node.lineno}: time.sleep stops the loop"
        elif name in CLOCK_CALLS and module.path != "core/clock.py" and module.path not in CLOCKS:
            yield f"{module.path}:{node.lineno}: time.{name}; take a core.clock.Clock"


def faults(root: Path) -> list[str]:
    found: list[str] = []
    for module in read(root):
        found += import_faults(module, root)
        found += size_faults(module)
        found += name_faults(module)
        found += habit_faults(module)
    return found


def test_the_house_rules_hold() -> None:
    assert faults(ROOT) == []


def test_every_room_stands_in_the_map() -> None:
    map_text = ast.get_docstring(ast.parse((ROOT / "__init__.py").read_text())) or ""
    rooms = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    missing = sorted(room for room in rooms - {"__init__", "__main__"} if f"``{room}``" not in map_text)
    assert missing == []


def test_every_exception_is_still_needed() -> None:
    """An entry that excuses nothing would excuse the next fault in that file."""
    present = {module.path for module in read(ROOT)}
    long_functions = {
        f"{module.path}:{node.name}"
        for module in read(ROOT)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= MAX_FUNCTION_LINES
    }
    long_files = {module.path for module in read(ROOT) if module.lines > MAX_FILE_LINES}
    assert sorted(set(LONG) - long_functions - long_files) == []
    assert sorted(set(CLOCKS) - present) == []


def test_doors_say_what_they_promise() -> None:
    """``__all__`` of every room but core lists names that exist, once each."""
    for door in sorted(ROOT.glob("*/__init__.py")):
        if door.parent.name in PLAIN:
            continue
        tree = ast.parse(door.read_text())
        promised = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        ]
        assert len(promised) == 1, f"{door}: a door has one __all__"
        assert len(promised[0]) == len(set(promised[0])), f"{door}: a name is promised twice"


# Importing a module imports its package first, so modules of one package begin from the same place: the package alone.
# There sys.modules is emptied of everything else before each of them, so that none can lean on what another one
# happened to import first. Two interpreters, each taking every second package.
_ALONE = """
import importlib, sys

def forget(names):
    for name in names:
        module, (parent, _, last) = sys.modules.pop(name), name.rpartition(".")
        if getattr(sys.modules.get(parent), last, None) is module:
            delattr(sys.modules[parent], last)

def ours():
    return {name for name in sys.modules if name == "sidecar" or name.startswith("sidecar.")}

for group in sys.argv[1:]:
    package, *modules = group.split()
    forget(ours())
    importlib.import_module(package)
    known = ours()
    for name in modules:
        importlib.import_module(name)
        forget(ours() - known)
"""


def test_every_module_imports_alone() -> None:
    packages: dict[str, list[str]] = {}
    for module in read(ROOT):
        if module.path.endswith("__init__.py"):
            packages.setdefault(module.dotted, [])
        elif not module.path.endswith("__main__.py"):
            packages.setdefault(module.dotted.rpartition(".")[0], []).append(module.dotted)
    groups = [" ".join([package, *modules]) for package, modules in sorted(packages.items())]
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _ALONE, *groups[part::2]],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT.parent)},
        )
        for part in (0, 1)
    ]
    errors = [process.communicate(timeout=600)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "".join(errors)


VIOLATIONS = {
    "a room above": ("core/a.py", "import sidecar.config", "not on a floor below"),
    "a stranger": ("ledger/a.py", "from sidecar.upstream import Pool", "not on a floor below"),
    "past the door": ("gateway/a.py", "from sidecar.ledger.journal import Journal", "passes by the door"),
    "a module through the door": ("gateway/a.py", "from sidecar.ledger import journal", "passes by the door"),
    "relative": ("ledger/a.py", "from ..config import load", "not on a floor below"),
    "from the package": ("ledger/a.py", "from sidecar import config", "not on a floor below"),
    "inside a function": ("ledger/a.py", "def f():\n    import sidecar.app", "not on a floor below"),
    "a store": ("serve.py", "import sidecar.storage", "only app"),
    "an unknown room": ("shed/a.py", "import sidecar.core.money", "rooms of the house"),
    "third party in core": ("core/a.py", "import aiohttp", "standard library only"),
    "the loop in http1": ("http1/a.py", "import asyncio", "is pure"),
    "aiohttp in http1": ("http1/a.py", "from aiohttp import web", "is pure"),
    "a name that names nothing": ("gateway/key_utils.py", "", "names nothing"),
    "a print": ("gateway/a.py", "print(1)", "belongs to the commands"),
    "a sleep": ("gateway/a.py", "import time\ntime.sleep(1)", "stops the loop"),
    "a clock": ("gateway/a.py", "import time\nt = time.monotonic()", "core.clock"),
    "a clock by name": ("gateway/a.py", "from time import time_ns\nt = time_ns()", "core.clock"),
    "a long file": ("gateway/a.py", "x = 1\n" * 401, "at most 400"),
    "a long function": ("gateway/a.py", "def f():\n" + "    x = 1\n" * 60, "at most 60"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_the_reader_catches(name: str, tmp_path: Path) -> None:
    path, text, expected = VIOLATIONS[name]
    ledger = tmp_path / "ledger" / "journal.py"
    ledger.parent.mkdir()
    ledger.write_text("")
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    found = faults(tmp_path)
    assert len(found) >= 1
    assert any(expected in fault for fault in found), found


def test_the_reader_lets_pass_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from sidecar.storage import SqliteStore\n"
        "from sidecar.core.money import Money\n"
        "from sidecar.ledger import Journal\n"
        "import time\ntime.sleep(0)\n"
    )
    (tmp_path / "http1").mkdir()
    (tmp_path / "http1" / "heads.py").write_text("import httptools\nfrom sidecar.http1.names import X\nimport re\n")
    assert faults(tmp_path) == []
