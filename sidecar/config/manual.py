"""docs/configuration.md, made from the tables: every key with what it takes, its default and its meaning.

``python -m sidecar.config .`` writes it; a test keeps the file equal to the code.
"""

from sidecar.config import policies, settings
from sidecar.config.reading import MAX_SECRET_BYTES
from sidecar.config.tables import UNSET, Field, Group, ListOf, MapOf, Record, Table

_INTRODUCTION = f"""\
# Configuration

This page is generated from the code (`python -m sidecar.config .`).
[policies.md](policies.md) explains how to think about plans, limits, quotas and prices.

The sidecar reads `sidecar.yaml` and one or many files of policies. Without `sidecar.yaml` the built-in policies apply,
which are those in `policies/`, and `--upstream` says what is protected. `sidecar check` reads everything and starts
nothing. Every fault is shown at once as `file:line: path: what is wrong and what to write`, with exit code 2.

## Values

- **Units.** Durations are written `500ms`, `30s`, `1m`, `24h`, `90d` or `2w`; sizes `512B`, `64KiB`, `10MiB` (1024) or
  `10MB` (1000); money `"0.50 USD"`. A bare number is refused where a unit belongs.
- **Numbers** are plain decimals; `10_000` is ten thousand.
- **Text** that YAML would take for something else must stand in quotes: `"ON"`, `"1:30"`, `"2024-01-01"`.
- **Environment.** `${{NAME}}` is the value of a variable, and it is a fault if it is not set. `${{NAME:-default}}` has
  a default for one that is not set or empty. `$${{` is the text `${{`. What a variable holds is put in after the YAML
  was parsed: it can never add keys. Only variables that the YAML names are read.
- **Secrets** are never written in clear: `${{NAME}}`, or `file:PATH` for a file that holds it (relative to the YAML
  file; line ends at its end are dropped; at most {MAX_SECRET_BYTES // 1024} KiB).
- **Unknown keys**, a key written twice, tags, merge keys (`<<`) and a second document are faults.
- **Aliases** (`&name`, `*name`) work, for whole values.

## From the command line

`--upstream` replaces the targets of the only upstream, `--listen` and `--admin` the two listeners, and `--data` the
data folder (relative to where the command runs). A database inside the data folder moves with it.
"""


def reference() -> str:
    """The page, Markdown."""
    parts = [_INTRODUCTION]
    sections = (
        ("sidecar.yaml", Table("sidecar.yaml", "How this process runs.", dict, settings.TOP), settings.TABLES),
        ("policies/*.yaml", settings.POLICIES, policies.TABLES),
    )
    for title, top, tables in sections:
        parts.append(f"## {title}\n\n{top.doc}\n\n{_rows(top)}")
        parts += [f"### {table.name}\n\n{table.doc}\n\n{_rows(table)}" for table in tables]
    parts.append("The keys of `policies/*.yaml` may stand in `sidecar.yaml` too.\n")
    return "\n".join(parts)


def _rows(table: Table) -> str:
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for entry in table.fields:
        cells = (f"`{entry.key}`", _takes(entry), _default(table, entry), entry.doc)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _takes(entry: Field) -> str:
    kind = entry.kind
    if isinstance(kind, Group | Record):
        return f"[{kind.table.name}](#{kind.table.name})"
    if isinstance(kind, MapOf):
        return f"{kind.words}: [{kind.table.name}](#{kind.table.name})"
    if isinstance(kind, ListOf):
        linked = f": [{kind.item.table.name}](#{kind.item.table.name})" if isinstance(kind.item, Record) else ""
        return f"{'one, or ' if kind.single else ''}a list of {kind.words}{linked}"
    return kind.words


def _default(table: Table, entry: Field) -> str:
    if entry.required:
        return "required"
    if entry.absent:
        return entry.absent
    if isinstance(entry.kind, Group | Record):
        return "its own defaults"
    default = table.default(entry)
    if default is UNSET or default is None or default in ((), {}, frozenset()):
        return "none"
    shown = entry.kind.show(default)
    if isinstance(shown, bool):
        shown = str(shown).lower()
    return f"`{', '.join(map(str, shown))}`" if isinstance(shown, list) else f"`{shown}`"
