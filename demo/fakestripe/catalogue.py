"""Products, prices, customers and what a price makes of a quantity (docs.stripe.com "Pricing models")."""

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from demo.fakestripe.state import DAY_S, Object, Refusal, World, flag, found, page


class Catalogue:
    """What is sold, and to whom."""

    def __init__(self, world: World) -> None:
        self.world = world

    def create_product(self, params: Object) -> Object:
        key = params.get("id") or self.world.id("prod")
        if key in self.world.products:
            raise Refusal(400, "Product already exists.", code="resource_already_exists", param="id")
        now = self.world.now_s()
        product = {
            "id": key,
            "object": "product",
            "active": flag(params.get("active", True)),
            "created": now,
            "updated": now,
            "default_price": None,
            "description": params.get("description"),
            "images": [],
            "livemode": False,
            "marketing_features": [],
            "metadata": params.get("metadata") or {},
            "name": params["name"],
            "package_dimensions": None,
            "shippable": None,
            "tax_code": None,
            "type": "service",
            "unit_label": params.get("unit_label"),
            "url": None,
        }
        self.world.products[key] = product
        self.world.emit("product.created", product)
        return product

    def product(self, key: str, params: Object) -> Object:
        return found(self.world.products, key, "product")

    def update_product(self, key: str, params: Object) -> Object:
        product = found(self.world.products, key, "product")
        changed(product, params, ("name", "description", "unit_label"), ("active",))
        product["updated"] = self.world.now_s()
        self.world.emit("product.updated", product)
        return product

    def products(self, params: Object) -> Object:
        wanted = params.get("ids")
        rows = [p for p in self.world.products.values() if not wanted or p["id"] in wanted]
        return page(_active(rows, params), params, "/v1/products")

    def create_price(self, params: Object) -> Object:
        product, recurring = params.get("product", ""), params.get("recurring")
        if "product_data" in params:
            product = self.create_product(params["product_data"])["id"]
        found(self.world.products, product, "product", "product")
        meter = recurring.get("meter") if recurring else None
        if meter and found(self.world.meters, meter, "billing meter", "recurring[meter]")["status"] != "active":
            raise Refusal(400, "The meter is inactive.", param="recurring[meter]")
        if recurring and recurring.get("usage_type") == "metered" and not meter:
            raise Refusal(400, "Metered prices must be backed by a meter.", param="recurring[meter]")
        self._claim(params.get("lookup_key"), flag(params.get("transfer_lookup_key", False)))
        tiers = [_tier(t) for t in params.get("tiers", [])]
        unit = params.get("unit_amount_decimal", params.get("unit_amount"))
        if (unit is None) != bool(tiers):
            raise Refusal(400, "A price has either unit_amount or tiers.", param="unit_amount")
        price: Object = {
            "id": self.world.id("price"),
            "object": "price",
            "active": flag(params.get("active", True)),
            "billing_scheme": params.get("billing_scheme", "per_unit"),
            "created": self.world.now_s(),
            "currency": params["currency"],
            "custom_unit_amount": None,
            "livemode": False,
            "lookup_key": params.get("lookup_key"),
            "metadata": params.get("metadata") or {},
            "nickname": params.get("nickname"),
            "product": product,
            "recurring": _recurring(recurring) if recurring else None,
            "tax_behavior": params.get("tax_behavior", "unspecified"),
            "tiers": tiers or None,
            "tiers_mode": params.get("tiers_mode"),
            "transform_quantity": _transform(params.get("transform_quantity")),
            "type": "recurring" if recurring else "one_time",
            "unit_amount": whole(unit),
            "unit_amount_decimal": None if unit is None else plain(Decimal(str(unit))),
        }
        self.world.prices[price["id"]] = price
        self.world.emit("price.created", shown(price, {}))
        return shown(price, params)

    def _claim(self, lookup_key: str | None, transfer: bool) -> None:
        """A lookup key belongs to one price; ``transfer_lookup_key`` takes it from the other atomically."""
        for other in self.world.prices.values():
            if lookup_key and other["lookup_key"] == lookup_key:
                if not transfer:
                    text = f"A price (`{other['id']}`) already uses that lookup key."
                    raise Refusal(400, text, param="lookup_key")
                other["lookup_key"] = None

    def price(self, key: str, params: Object) -> Object:
        return shown(found(self.world.prices, key, "price"), params)

    def update_price(self, key: str, params: Object) -> Object:
        price = found(self.world.prices, key, "price")
        if "lookup_key" in params and params["lookup_key"] != price["lookup_key"]:
            self._claim(params["lookup_key"], flag(params.get("transfer_lookup_key", False)))
            price["lookup_key"] = params["lookup_key"] or None
        changed(price, params, ("nickname",), ("active",))
        self.world.emit("price.updated", shown(price, {}))
        return shown(price, params)

    def prices(self, params: Object) -> Object:
        rows, keys = _active(list(self.world.prices.values()), params), params.get("lookup_keys")
        meter = (params.get("recurring") or {}).get("meter")
        rows = [
            p for p in rows if params.get("product") in (None, p["product"]) and (not keys or p["lookup_key"] in keys)
        ]
        rows = [p for p in rows if not meter or (p["recurring"] or {}).get("meter") == meter]
        inner = {"expand": [e.removeprefix("data.") for e in params.get("expand", [])]}
        return page([shown(p, inner) for p in rows], params, "/v1/prices")

    def create_customer(self, params: Object) -> Object:
        key = self.world.id("cus")
        customer = {
            "id": key,
            "object": "customer",
            "balance": 0,
            "created": self.world.now_s(),
            "currency": None,
            "default_source": None,
            "delinquent": False,
            "description": params.get("description"),
            "email": params.get("email"),
            "invoice_prefix": key[-8:].upper(),
            "livemode": False,
            "metadata": params.get("metadata") or {},
            "name": params.get("name"),
        }
        self.world.customers[key] = customer
        self.world.emit("customer.created", customer)
        return customer

    def customer(self, key: str, params: Object) -> Object:
        return found(self.world.customers, key, "customer")

    def update_customer(self, key: str, params: Object) -> Object:
        customer = found(self.world.customers, key, "customer")
        changed(customer, params, ("name", "email", "description"), ())
        self.world.emit("customer.updated", customer)
        return customer

    def delete_customer(self, key: str, params: Object) -> Object:
        self.world.emit("customer.deleted", found(self.world.customers, key, "customer"))
        self.world.customers[key] = {"id": key, "object": "customer", "deleted": True}
        return self.world.customers[key]

    def customers(self, params: Object) -> Object:
        rows = [c for c in self.world.customers.values() if not c.get("deleted")]
        return page([c for c in rows if params.get("email") in (None, c["email"])], params, "/v1/customers")


def changed(target: Object, params: Object, texts: tuple[str, ...], flags: tuple[str, ...]) -> None:
    """Takes over what is named; ``metadata`` is merged, an empty value removes its key."""
    target.update({name: params[name] or None for name in texts if name in params})
    target.update({name: flag(params[name]) for name in flags if name in params})
    if "metadata" in params:
        merged = {**target["metadata"], **params["metadata"]} if params["metadata"] else {}
        target["metadata"] = {k: v for k, v in merged.items() if v != ""}


def _active(rows: list[Object], params: Object) -> list[Object]:
    return [r for r in rows if "active" not in params or r["active"] == flag(params["active"])]


def shown(price: Object, params: Object) -> Object:
    """A price as answered: ``tiers`` only where there are any and they are expanded."""
    hide = "tiers" not in params.get("expand", []) or not price["tiers"]
    return {k: v for k, v in price.items() if not (k == "tiers" and hide)}


def _recurring(given: Object) -> Object:
    return {
        "interval": given["interval"],
        "interval_count": int(given.get("interval_count", 1)),
        "meter": given.get("meter"),
        "trial_period_days": None,
        "usage_type": given.get("usage_type", "licensed"),
    }


def _transform(given: Object | None) -> Object | None:
    return {"divide_by": int(given["divide_by"]), "round": given["round"]} if given else None


def _tier(given: Object) -> Object:
    unit = given.get("unit_amount_decimal", given.get("unit_amount"))
    flat = given.get("flat_amount_decimal", given.get("flat_amount"))
    return {
        "flat_amount": whole(flat),
        "flat_amount_decimal": None if flat is None else plain(Decimal(str(flat))),
        "unit_amount": whole(unit),
        "unit_amount_decimal": None if unit is None else plain(Decimal(str(unit))),
        "up_to": None if given["up_to"] == "inf" else int(given["up_to"]),
    }


def plain(value: Decimal) -> str:
    return format(value.normalize(), "f")


def whole(value: object) -> int | None:
    number = None if value is None else Decimal(str(value))
    return int(number) if number is not None and number == number.to_integral_value() else None


def charges(price: Object, quantity: Decimal) -> Iterator[tuple[Decimal, int, str]]:
    """(quantity, minor units, unit price) of each line: one per line of a graduated price and per flat amount.

    An amount is rounded half up per line. A negative quantity is billed as 0.
    """
    left = max(quantity, Decimal(0))
    if price["transform_quantity"]:
        rule = price["transform_quantity"]
        rounding = ROUND_CEILING if rule["round"] == "up" else ROUND_FLOOR
        packs = (left / rule["divide_by"]).to_integral_value(rounding)
        yield left, _minor(packs * Decimal(price["unit_amount_decimal"])), price["unit_amount_decimal"]
    elif not price["tiers"]:
        yield left, _minor(left * Decimal(price["unit_amount_decimal"])), price["unit_amount_decimal"]
    elif price["tiers_mode"] == "volume":
        tier = next(t for t in price["tiers"] if t["up_to"] is None or left <= t["up_to"])
        yield from _tiered(tier, left)
    else:
        floor = Decimal(0)
        for tier in price["tiers"]:
            top = left if tier["up_to"] is None else min(left, Decimal(tier["up_to"]))
            if top > floor or floor == 0:
                yield from _tiered(tier, top - floor)
            if top >= left:
                return
            floor = top


def _tiered(tier: Object, quantity: Decimal) -> Iterator[tuple[Decimal, int, str]]:
    unit = tier["unit_amount_decimal"] or "0"
    yield quantity, _minor(quantity * Decimal(unit)), unit
    if tier["flat_amount_decimal"]:
        yield Decimal(0), _minor(Decimal(tier["flat_amount_decimal"])), tier["flat_amount_decimal"]


def _minor(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def shifted(anchor_s: int, interval: str, count: int) -> int:
    """``count`` intervals after the anchor; a day the month does not have becomes its last (docs: billing cycle)."""
    if interval in ("day", "week"):
        return anchor_s + count * DAY_S * (7 if interval == "week" else 1)
    anchor = datetime.fromtimestamp(anchor_s, UTC)
    months = anchor.year * 12 + anchor.month - 1 + count * (12 if interval == "year" else 1)
    year, month = months // 12, months % 12 + 1
    day = min(anchor.day, monthrange(year, month)[1])
    return int(anchor.replace(year=year, month=month, day=day).timestamp())


def period_end(anchor_s: int, recurring: Object, start_s: int) -> int:
    """The first turn of the anchor after ``start_s``."""
    number = 0
    while (end := shifted(anchor_s, recurring["interval"], recurring["interval_count"] * number)) <= start_s:
        number += 1
    return end
