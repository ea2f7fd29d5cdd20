"""JSON Schemas (draft 2020-12) of the YAML files, made from the tables: editors complete and check with them.

``python -m sidecar.config .`` writes them; a test keeps the files equal to the code.
"""

import json

from sidecar.config import policies, settings
from sidecar.config.kinds import Schema
from sidecar.config.tables import UNSET, Field, Group, Table

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, Schema]:
    """File name to schema: ``sidecar.schema.json`` and ``policies.schema.json``."""
    return {
        "sidecar.schema.json": _document(settings.SIDECAR, (*settings.TABLES, *policies.TABLES)),
        "policies.schema.json": _document(settings.POLICIES, policies.TABLES),
    }


def _document(top: Table, parts: tuple[Table, ...]) -> Schema:
    reference = {"type": "string", "pattern": r"\$\{", "description": "A reference to an environment variable."}
    return {
        "$schema": _DRAFT,
        "title": top.name,
        **_table(top),
        "$defs": {"reference": reference} | {table.name: _table(table) for table in parts},
    }


def _table(table: Table) -> Schema:
    required = [entry.key for entry in table.fields if entry.required]
    return {
        "description": table.doc,
        "type": "object",
        "properties": {entry.key: _field(table, entry) for entry in table.fields},
        "additionalProperties": False,
    } | ({"required": required} if required else {})


def _field(table: Table, entry: Field) -> Schema:
    found: Schema = {"description": entry.doc, **entry.kind.schema()}
    if not isinstance(entry.kind, Group):
        default = table.default(entry)
        if (
            default is not UNSET
            and default is not None
            and isinstance(shown := entry.kind.show(default), str | int | bool)
        ):
            found["default"] = shown
    return found


def texts() -> dict[str, str]:
    """File name to the file's text."""
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in schemas().items()}
