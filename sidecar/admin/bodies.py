"""Reads what an admin request says: JSON bodies and query parameters, with every unknown or mistyped field refused."""

import json
from difflib import get_close_matches
from typing import Any

from aiohttp import web

from sidecar.admin.replies import Refused

MAX_BODY = 64 * 1024  # bytes
_WORDS = {str: "a text", bool: "true or false", list: "a list of texts", dict: "an object", int: "a whole number"}


async def body_fields(request: web.Request, *, required: dict[str, type], optional: dict[str, type]) -> dict[str, Any]:
    """The body's members; each has its type or, when optional, is absent or null. ValueError names the first fault."""
    raw = await request.read()
    if raw and request.content_type != "application/json":
        raise Refused("not_json", f"Send Content-Type: application/json, not {ascii(request.content_type)[:80]}.")
    try:
        members = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        raise ValueError("the body is not valid JSON") from None
    if not isinstance(members, dict):
        raise ValueError("the body must be a JSON object")
    known = required | optional
    _refuse_unknown(members, known)
    for name in required:
        if members.get(name) is None:
            raise ValueError(f"{name} is missing")
    present = {name: value for name, value in members.items() if value is not None}
    for name, value in present.items():
        right = isinstance(value, known[name]) and (known[name] is bool or not isinstance(value, bool))
        if not right or (known[name] is list and not all(isinstance(item, str) for item in value)):
            raise ValueError(f"{name} must be {_WORDS[known[name]]}")
    return present


def query_fields(request: web.Request, *names: str, several: str = "") -> dict[str, Any]:
    """The query's parameters, each at most once; ``limit`` as an integer. ``several``: one that may be there more than
    once, as a list."""
    _refuse_unknown(request.query, (*names, several) if several else names)
    found: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        if name == several:
            found[name] = values
            continue
        if len(values) > 1:
            raise ValueError(f"{name} is given more than once")
        found[name] = _integer(name, values[0]) if name == "limit" else values[0]
    return found


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(f"{name} must be a whole number above 0")
    return int(text)


def _refuse_unknown(given: Any, known: Any) -> None:
    for name in given:
        if name not in known:
            near = get_close_matches(name, list(known), 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known) or 'none'}"
            raise ValueError(f"{ascii(name)[:80]} is not known here{hint}")
