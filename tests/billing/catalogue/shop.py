"""Stripe's products, prices and meters in memory, with its rules, and a plug that can be pulled."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tests.billing.catalogue.openapi import refusals

PAGE = 2  # far below what is asked for, so that lists have to be followed


class Refused(Exception):
    """Stripe's 400."""


def decoded(text: str) -> dict[str, Any]:
    """``a[b][0]=c`` as mappings and lists."""
    root: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *rest = re.findall(r"[^\[\]]+", name)
        at, key = root, first
        for part in rest:
            at, key = at.setdefault(key, {}), part
        at[key] = value
    return _listed(root)


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [_listed(value[key]) for key in sorted(value, key=int)]
    return {key: _listed(item) for key, item in value.items()}


class Shop:
    """``writes`` are the POSTs that came in. ``dies_after``: how many are taken before the plug is pulled; the last one
    is then done without an answer when ``after`` is set, and not done when it is not."""

    def __init__(self) -> None:
        self.products: dict[str, dict[str, Any]] = {}
        self.prices: dict[str, dict[str, Any]] = {}
        self.meters: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        self.dies_after: int | None = None
        self.after = False
        self.lacks = ""  # a permission that the key does not have, for writing
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self._serve)

    def by_key(self, key: str) -> dict[str, Any]:
        (found,) = [price for price in self.prices.values() if price["lookup_key"] == key]
        return found

    def active(self) -> list[str]:
        """The lookup keys of all active prices, with the product of each."""
        return sorted(f"{one['product']} {one['lookup_key']}" for one in self.prices.values() if one["active"])

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return self._list(request.path, decoded(request.query_string))
        if self.lacks:
            message = f"Having the '{self.lacks}' permission would allow this request to continue."
            return web.json_response({"error": {"message": message, "type": "invalid_request_error"}}, status=403)
        self.writes.append(request.path)
        dies = self.dies_after is not None and len(self.writes) > self.dies_after
        if not dies or self.after:
            try:
                made = self._write(request.path, decoded(await request.text()))
            except Refused as refused:
                return web.json_response(
                    {"error": {"message": str(refused), "type": "invalid_request_error"}}, status=400
                )
        if dies:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.json_response(made)

    def _list(self, path: str, query: dict[str, Any]) -> web.Response:
        table = {"/v1/products": self.products, "/v1/prices": self.prices, "/v1/billing/meters": self.meters}[path]
        items = [item for item in table.values() if _asked_for(item, query)]
        if "starting_after" in query:
            items = items[[item["id"] for item in items].index(query["starting_after"]) + 1 :]
        tiers = query.get("expand") == ["data.tiers"]
        shown = [item if tiers else {**item, "tiers": None} for item in items[:PAGE]]
        return web.json_response({"object": "list", "url": path, "has_more": len(items) > PAGE, "data": shown})

    def _write(self, path: str, form: dict[str, Any]) -> dict[str, Any]:
        table, _, id = path.removeprefix("/v1/").removeprefix("billing/").partition("/")
        wrong = refusals(path if not id else f"/v1/{table}/{{{'id' if table == 'products' else table[:-1]}}}", form)
        if wrong:
            raise Refused("; ".join(wrong))
        make: Callable[[dict[str, Any]], dict[str, Any]] = getattr(self, f"_make_{table}")
        if not id:
            return make(form)
        found: dict[str, Any] = getattr(self, table)[id]
        found["active"] = form["active"] == "true"
        return found

    def _make_products(self, form: dict[str, Any]) -> dict[str, Any]:
        if form["id"] in self.products:
            raise Refused("Product already exists.")
        made = {"object": "product", "active": True, **form}
        self.products[form["id"]] = made
        return made

    def _make_meters(self, form: dict[str, Any]) -> dict[str, Any]:
        if any(one["event_name"] == form["event_name"] and one["status"] == "active" for one in self.meters.values()):
            raise Refused("An active meter has this event name already.")
        id = f"mtr_{len(self.meters)}"
        made = {"object": "billing.meter", "id": id, "status": "active", "event_time_window": None, **form}
        self.meters[id] = made
        return made

    def _make_prices(self, form: dict[str, Any]) -> dict[str, Any]:
        key = form.get("lookup_key")
        for other in self.prices.values():
            if key is not None and other["lookup_key"] == key:
                if form.get("transfer_lookup_key") != "true":
                    raise Refused("A price with this lookup key exists.")
                other["lookup_key"] = None
        if form["product"] not in self.products or not self.products[form["product"]]["active"]:
            raise Refused("No such product, or an inactive one.")
        if ("meter" in form["recurring"]) != (form["recurring"]["usage_type"] == "metered"):
            raise Refused("Metered prices have a meter.")
        package = form.get("transform_quantity")
        if package is not None and form["billing_scheme"] == "tiered":
            raise Refused("transform_quantity goes with billing_scheme=per_unit.")
        id = f"price_{len(self.prices)}"
        made: dict[str, Any] = {
            "object": "price",
            "id": id,
            "active": True,
            "product": form["product"],
            "currency": form["currency"],
            "lookup_key": key,
            "metadata": form.get("metadata", {}),
            "nickname": form.get("nickname"),
            "recurring": {"interval_count": 1, "meter": None, **form["recurring"]},
            "billing_scheme": form["billing_scheme"],
            "tiers_mode": form.get("tiers_mode"),
            "tiers": _tiers(form["tiers"]) if "tiers" in form else None,
            "transform_quantity": package and {"divide_by": int(package["divide_by"]), "round": package["round"]},
            **_amount("unit_amount", form),
        }
        self.prices[id] = made
        return made


def _asked_for(item: dict[str, Any], query: dict[str, Any]) -> bool:
    if query.get("active") == "true" and not item["active"]:
        return False
    if "lookup_keys" in query and item["lookup_key"] not in query["lookup_keys"]:
        return False
    return "product" not in query or item["product"] == query["product"]


def _tiers(written: list[dict[str, str]]) -> list[dict[str, Any]]:
    if [tier["up_to"] for tier in written].index("inf") != len(written) - 1:
        raise Refused("The last tier, and no other, goes up to inf.")
    return [
        {
            "up_to": None if tier["up_to"] == "inf" else int(tier["up_to"]),
            **_amount("unit_amount", tier),
            **_amount("flat_amount", tier),
        }
        for tier in written
    ]


def _amount(name: str, form: dict[str, Any]) -> dict[str, Any]:
    """Both fields as Stripe shows them: the integer one only where it is one. At most 12 decimals, no exponent."""
    written = form.get(f"{name}_decimal")
    if written is None:
        return {name: None, f"{name}_decimal": None}
    if re.fullmatch(r"\d+(\.\d{1,12})?", written) is None:
        raise Refused(f"{name}_decimal: {written}")
    value = Decimal(written)
    if name == "flat_amount" and value != int(value):
        raise Refused(f"flat_amount_decimal: {written} is no integer")
    return {name: int(value) if value == int(value) else None, f"{name}_decimal": written}
