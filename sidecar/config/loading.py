"""The way from files, command line and environment to one frozen snapshot, or to every fault at once."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from sidecar.config import checks, network, settings, stores
from sidecar.config.reading import BUILT_IN, Place, Reading, quoted
from sidecar.config.tables import Table
from sidecar.config.tree import Node, TreeError, parse
from sidecar.core.errors import ConfigError, Fault
from sidecar.core.policy import Costs, Meter, Plan, Route, Settings, Snapshot
from sidecar.core.upstreams import Target, Upstream
from sidecar.core.values import Tenant

MAX_FILE_BYTES = 16 * 1024 * 1024  # of one file; 10,000 routes are about 1 MiB
MAX_FILES = 1000
DEFAULT_FILE = Path("sidecar.yaml")
_NO_UPSTREAM = (
    "there is no upstream to protect; start with --upstream http://127.0.0.1:9000, "
    'or write upstreams: {api: {targets: ["http://127.0.0.1:9000"]}} into sidecar.yaml'
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says, which wins over the files: an origin, two ``host:port``, a folder, and where the
    policies stand (a folder or a file, instead of what ``policies:`` says)."""

    upstream: str | None = None
    listen: str | None = None
    admin: str | None = None
    data: str | None = None
    policies: str | None = None


@dataclass(slots=True)
class _Document:
    """One file's values by key, and where each key stands. ``whole``: nothing of it is missing because of a fault."""

    file: str
    values: dict[str, Any]
    lines: dict[str, tuple[int, str]]
    whole: bool = True


def load(
    path: Path | None, overrides: Overrides, environ: Mapping[str, str], *, needs_upstream: bool = True
) -> Snapshot:
    """The snapshot that ``path`` (default: ``./sidecar.yaml`` where it exists) and its policies describe.

    Without a file the built-in policies apply. ``needs_upstream`` False is for commands that serve nothing.
    Raises ConfigError with every fault found.
    """
    return read_snapshot(
        path, overrides, Reading(environ, main=str(path or DEFAULT_FILE)), needs_upstream=needs_upstream
    )


def read_snapshot(
    path: Path | None, overrides: Overrides, reading: Reading, *, needs_upstream: bool = True
) -> Snapshot:
    """As ``load``, into a new ``reading``, which afterwards knows what was read and where each value stands."""
    top = _read_top(path, reading)
    folder = Path(top.file).parent
    documents = [top, *_read_policies(top, folder, reading, overrides.policies)]
    whole = all(document.whole for document in documents)
    upstreams = _upstreams(top, overrides, reading, needed=needs_upstream)
    configured = _settings(top, folder, overrides, reading)
    merged = _merge(documents, reading)
    if whole:
        snapshot = _compose(merged, configured, upstreams, reading)
        checks.check(snapshot, reading)
    if reading.faults:
        raise ConfigError(reading.faults)
    return snapshot


def built_in() -> dict[str, Any]:
    """The built-in policies: meters, routes (without an upstream), plans and costs."""
    return dict(_built_in()[0].values)


@cache
def _built_in() -> tuple[_Document, Reading]:
    reading = Reading({})
    text = resources.files("sidecar.config").joinpath("builtin/policies.yaml").read_bytes()
    document = _read_document(parse(text), BUILT_IN, settings.POLICIES, reading)
    if reading.faults:
        raise ConfigError(reading.faults)
    return document, reading


def _read_top(path: Path | None, reading: Reading) -> _Document:
    if path is None and not DEFAULT_FILE.exists():
        return _read_document(Node("map", 0, items=[]), str(DEFAULT_FILE), settings.SIDECAR, reading)
    return _read_file(path or DEFAULT_FILE, settings.SIDECAR, reading)


def _read_file(path: Path, table: Table, reading: Reading) -> _Document:
    file = str(path)
    reading.see(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        reading.faults.append(Fault(file, 0, "", f"the file cannot be read: {reason}"))
        return _Document(file, {}, {}, whole=False)
    try:
        if len(data) > MAX_FILE_BYTES:
            raise TreeError(f"the file is larger than {MAX_FILE_BYTES // 1024**2} MiB")
        root = parse(data)
        if root is None:
            raise TreeError("the file is empty; write something or remove it", 1)
    except TreeError as error:
        reading.faults.append(Fault(file, error.line, "", error.message))
        return _Document(file, {}, {}, whole=False)
    return _read_document(root, file, table, reading)


def _read_document(root: Node | None, file: str, table: Table, reading: Reading) -> _Document:
    reading.file, reading.folder = file, Path(file).parent
    document = _Document(file, {}, {})
    if root is not None:
        table.fill(root, "", reading, document.values, document.lines)
    shaped = root is not None and root.kind == "map"
    document.whole = shaped and all(key in document.values for key in document.lines if key in _COMPOSITE)
    return document


_COMPOSITE = frozenset({"meters", "routes", "plans", "tenants", "costs", "upstreams", "policies"})


def _read_policies(top: _Document, folder: Path, reading: Reading, instead: str | None) -> Iterator[_Document]:
    seen: set[str] = set()
    files = _policy_files(top, folder, reading) if instead is None else _other_files(Path(instead), reading)
    for path in files:
        real = os.path.realpath(path)
        if real not in seen and len(seen) < MAX_FILES:
            seen.add(real)
            yield _read_file(path, settings.POLICIES, reading)


def _policy_files(top: _Document, folder: Path, reading: Reading) -> Iterator[Path]:
    if "policies" not in top.values:
        default = folder / "policies"
        reading.see(default)
        if "policies" not in top.lines and os.path.isdir(default):  # noqa: PTH112
            yield from _yaml_files(default, reading)
        return
    for entry in top.values["policies"]:
        path = folder / entry
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long
            yield path
            continue
        files = _yaml_files(path, reading)
        if not 0 < len(files) <= MAX_FILES:
            line, where = top.lines["policies"]
            what = f"more than {MAX_FILES} files" if files else "no *.yaml file"
            reading.faults.append(Fault(top.file, line, where, f"the folder {quoted(str(path))} holds {what}"))
        yield from files


def _other_files(path: Path, reading: Reading) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = _yaml_files(path, reading)
    if not 0 < len(files) <= MAX_FILES:
        what = f"more than {MAX_FILES} files" if files else "no *.yaml file"
        reading.faults.append(Fault(str(path), 0, "", f"the folder holds {what}"))
    return files


def _yaml_files(folder: Path, reading: Reading) -> list[Path]:
    """The policies of a folder by name; hidden files are editors' and orchestrators' own."""
    reading.see(folder)
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        reading.faults.append(Fault(str(folder), 0, "", f"the folder cannot be read: {error.strerror}"))
        return []
    found = (path for path in entries if path.suffix in (".yaml", ".yml") and not path.name.startswith("."))
    return sorted(found, key=lambda path: path.name)


def _upstreams(top: _Document, overrides: Overrides, reading: Reading, *, needed: bool) -> dict[str, Upstream]:
    found: dict[str, Upstream] = top.values.get("upstreams", {})
    target = _override("--upstream", overrides.upstream, network.parse_target, reading)
    if isinstance(target, Target):
        if len(found) > 1:
            names = ", ".join(sorted(found)[:8])
            message = f"there are several upstreams in {top.file} ({names}); write the target there"
            reading.faults.append(Fault("--upstream", 0, "", message))
        if not found:
            return {"api": Upstream("api", (target,))}
        name, upstream = next(iter(found.items()))
        changed = dataclasses.replace(upstream, targets=(target,))
        reading.moved(upstream, changed)
        return found | {name: changed}
    if needed and not found and overrides.upstream is None and top.whole and not reading.names("upstream"):
        reading.faults.append(Fault(top.file, 0, "", _NO_UPSTREAM))
    return found


def _override(option: str, value: str | None, read: Any, reading: Reading) -> Any:
    if value is None:
        return None
    try:
        return read(value)
    except ValueError as error:
        reading.faults.append(Fault(option, 0, "", str(error)))
        return None


def _settings(top: _Document, folder: Path, overrides: Overrides, reading: Reading) -> Settings:
    values = {key: value for key, value in top.values.items() if key in Settings.__dataclass_fields__}
    listen = _override("--listen", overrides.listen, network.parse_listen, reading)
    if listen is not None:
        values["listen_host"], values["listen_port"] = listen
    admin = _override("--admin", overrides.admin, network.parse_listen, reading)
    if admin is not None and "admin" in values:
        changed = dataclasses.replace(values["admin"], host=admin[0], port=admin[1])
        reading.moved(values["admin"], changed)
        values["admin"] = changed
    configured = os.path.abspath(folder / values.get("data", "data"))  # noqa: PTH100 - keeps symlinks as they are named
    if overrides.data is not None and not overrides.data.strip():
        reading.faults.append(Fault("--data", 0, "", "is empty; write a folder"))
    data = os.path.abspath(overrides.data) if overrides.data is not None else configured  # noqa: PTH100
    values["data"] = data
    values["storage"] = _storage(top, folder, configured, data, reading)
    made = Settings(**values)
    lines = {attr: line for attr, line in top.lines.items() if not (listen and attr.startswith("listen_"))}
    reading.places[id(made)] = Place(made, top.file, 1, "", lines)
    return made


def _storage(top: _Document, folder: Path, configured: str, data: str, reading: Reading) -> str:
    """``sqlite:///`` and the absolute path of the database; in ``data`` when it was not put anywhere else."""
    written: str | None = top.values.get("storage")
    if written is None:
        return f"sqlite:///{data}/sidecar.db"
    if stores.is_postgresql(written):
        return written
    rest = written.removeprefix("sqlite:///")
    if rest == written or not rest.strip("/") or rest.endswith("/") or ":memory:" in rest or "?" in rest:
        reading.faults.append(Fault(top.file, *top.lines["storage"], _storage_fault(written)))
        return written
    path = os.path.abspath(folder / rest)  # noqa: PTH100
    if data != configured and path.startswith(configured + os.sep):
        path = data + path[len(configured) :]
    return f"sqlite:///{path}"


def _storage_fault(written: str) -> str:
    scheme, separator, rest = written.partition("://")
    if separator and scheme != "sqlite":  # not the whole text: it may hold a password
        return f"{quoted(scheme + '://')} is no store; write sqlite:///data/sidecar.db or a postgresql:// URL"
    if ":memory:" in written:
        return "a database in memory would lose all usage at a stop; write a file such as sqlite:///data/sidecar.db"
    if separator and rest and not rest.startswith("/"):
        return f"{quoted(written)} has two slashes; write sqlite:///{rest[:60]} for a path relative to this file"
    return f"{quoted(written)} names no database file; write one such as sqlite:///data/sidecar.db"


def _merge(documents: list[_Document], reading: Reading) -> dict[str, Any]:
    """One mapping out of all documents; what is written twice is a fault."""
    merged: dict[str, Any] = {}
    for document in documents:
        for key in ("meters", "plans", "tenants"):
            if key not in document.values:
                continue
            into = merged.setdefault(key, {})
            for name, value in document.values[key].items():
                if name in into:
                    kind = key.removesuffix("s")
                    message = (
                        f"the {kind} {quoted(name)} is defined twice; it stands at {reading.where(into[name])} too"
                    )
                    reading.blame(value, "", message)
                else:
                    into[name] = value
        if "routes" in document.values:
            merged["routes"] = merged.get("routes", ()) + document.values["routes"]
        if "costs" in document.values:
            if "costs" in merged:
                message = f"costs are written twice; they stand at {reading.where(merged['costs'])} too"
                reading.blame(document.values["costs"], "", message)
            merged["costs"] = document.values["costs"]
    return merged


def _compose(
    merged: dict[str, Any], configured: Settings, upstreams: dict[str, Upstream], reading: Reading
) -> Snapshot:
    """The snapshot, with the built-in policies where there are no others."""
    document, own = _built_in()
    reading.places |= own.places
    ready = document.values
    plans: dict[str, Plan] = merged.get("plans", ready["plans"])
    meters: dict[str, Meter] = merged.get("meters", ready["meters"])
    if "plans" not in merged and "meters" in merged:  # the built-in plans bring the meters that they count with
        used = {quota.meter for plan in plans.values() for quota in plan.quotas}
        meters = {name: meter for name, meter in ready["meters"].items() if name in used} | meters
    costs: Costs = merged.get("costs", ready["costs"] if "plans" not in merged else Costs())
    routes: tuple[Route, ...] = merged.get("routes", ready["routes"] if upstreams else ())
    tenants: dict[str, Tenant] = merged.get("tenants", {})
    return Snapshot(
        configured,
        upstreams,
        meters,
        tuple(_with_upstream(route, upstreams, reading) for route in routes),
        {name: _with_test_keys(plan, plans, reading) for name, plan in plans.items()},
        tenants,
        costs,
    )


def _with_upstream(route: Route, upstreams: dict[str, Upstream], reading: Reading) -> Route:
    if route.upstream or len(upstreams) != 1:
        return route
    changed = dataclasses.replace(route, upstream=next(iter(upstreams)))
    reading.moved(route, changed)
    return changed


def _with_test_keys(plan: Plan, plans: dict[str, Plan], reading: Reading) -> Plan:
    if plan.test_keys is not None or "sandbox" not in plans:
        return plan
    changed = dataclasses.replace(plan, test_keys="sandbox")
    reading.moved(plan, changed)
    return changed
