"""JSON paths: ``$.usage.total_tokens``, ``$['a b'][0]``, ``$.choices[-1]``; nothing else of RFC 9535."""

import json
import re

from sidecar.config.kinds import ScalarKind, text_of
from sidecar.config.reading import Scalar, quoted

_MOST_STEPS = 32
_STEP = re.compile(
    r"""\.([A-Za-z_\u0080-\U0010ffff][\w\u0080-\U0010ffff-]*)   # .name; a dash in it is common and not in RFC 9535
      | \['((?:[^'\\]|\\['\\])+)'\]
      | \["((?:[^"\\]|\\["\\])+)"\]
      | \[(0|-?[1-9][0-9]{0,5})\]""",
    re.VERBOSE,
)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def _parse(scalar: Scalar) -> tuple[str | int, ...]:
    written = text_of(scalar)
    if not written.isprintable():
        raise ValueError(f"{quoted(written)} holds characters that cannot be seen; remove them")
    if not written.startswith("$"):
        raise ValueError(f"{quoted(written)} is no JSON path; write it from the root on, such as $.usage.total_tokens")
    steps: list[str | int] = []
    at = 1
    while at < len(written):
        match = _STEP.match(written, at)
        if match is None:
            raise ValueError(
                f"{quoted(written)}: {quoted(written[at:])} is no step; write .name, ['name'], [0] or [-1]: "
                "wildcards, filters and slices are not supported"
            )
        name = match[1] or match[2] or match[3]
        steps.append(re.sub(r"\\(.)", r"\1", name) if match[1] is None and name else name or int(match[4]))
        at = match.end()
    if len(steps) > _MOST_STEPS:
        raise ValueError(f"{quoted(written)} has more than {_MOST_STEPS} steps; write fewer")
    return tuple(steps)


def _show(path: tuple[str | int, ...]) -> str:
    return "$" + "".join(_shown(step) for step in path)


def _shown(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _PLAIN.fullmatch(step):
        return f".{step}"
    return "[" + json.dumps(step, ensure_ascii=False) + "]"  # escapes quotes and backslashes alone: all is printable


JSON_PATH = ScalarKind(
    "a JSON path such as $.usage.total_tokens", _parse, {"type": "string", "pattern": r"^\$([.\[].*)?$"}, _show
)
