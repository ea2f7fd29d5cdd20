"""``python -m sidecar.config FOLDER`` writes what is generated from the tables into a work tree: schemas, reference."""

import sys
from pathlib import Path

from sidecar.config.jsonschemas import texts
from sidecar.config.manual import reference


def generated() -> dict[str, str]:
    """Path in the work tree to the file's text."""
    return {"docs/configuration.md": reference()} | {f"config/{name}": text for name, text in texts().items()}


def main(arguments: list[str]) -> int:
    """Writes the files; the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m sidecar.config FOLDER\n")
        return 2
    for path, text in generated().items():
        (Path(arguments[0]) / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
