"""Subscriptions, checkout and portal sessions.

After docs.stripe.com "Subscription lifecycle" (statuses), "Billing cycle" (anchors), "Trials", "Pause collection",
"Cancel" (an immediate cancellation bills no usage unless ``invoice_now``) and the periods of the items (2025-03-31).
"""

from demo.fakestripe.catalogue import Catalogue, changed, period_end, shown
from demo.fakestripe.invoices import Billed, Invoices
from demo.fakestripe.state import DAY_S, Object, Refusal, World, flag, found, page

ENDED = ("canceled", "incomplete_expired")


class Subscriptions:
    """Who is subscribed to what, in which period."""

    def __init__(self, world: World, invoices: Invoices) -> None:
        self.world = world
        self.invoices = invoices
        self.warned: set[str] = set()

    def create(self, params: Object) -> Object:
        now, customer = self.world.now_s(), params["customer"]
        if found(self.world.customers, customer, "customer", "customer").get("deleted"):
            raise Refusal(400, f"No such customer: '{customer}'", code="resource_missing", param="customer")
        trial = int(params.get("trial_end") or 0) or None
        if "trial_period_days" in params:
            trial = now + int(params["trial_period_days"]) * DAY_S
        start = int(params.get("backdate_start_date") or now)
        anchor = trial or int(params.get("billing_cycle_anchor") or start)
        sub = self._blank(params, start, anchor, trial)
        for given in params["items"]:
            sub["items"]["data"].append(self._item(sub, given, start))
        sub["currency"] = sub["items"]["data"][0]["price"]["currency"]
        self.world.subscriptions[sub["id"]] = sub
        items = [] if trial else [b for b in self._ahead(sub) if not _metered(b[0])]
        invoice = self.invoices.draft(sub, "subscription_create", items, (start, start))
        self.invoices.run(invoice)
        self.world.emit("customer.subscription.created", sub)
        return sub

    def _blank(self, params: Object, start: int, anchor: int, trial: int | None) -> Object:
        key = self.world.id("sub")
        sub: Object = {
            "id": key,
            "object": "subscription",
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
            "billing_cycle_anchor": anchor,
            "billing_mode": {"type": (params.get("billing_mode") or {}).get("type", "flexible"), "flexible": None},
            "billing_schedules": [],
            "cancel_at": None,
            "cancel_at_period_end": flag(params.get("cancel_at_period_end", False)),
            "canceled_at": None,
            "collection_method": params.get("collection_method", "charge_automatically"),
            "created": self.world.now_s(),
            "customer": params["customer"],
            "discounts": [],
            "ended_at": None,
            "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
            "items": {
                "object": "list",
                "data": [],
                "has_more": False,
                "url": f"/v1/subscription_items?subscription={key}",
            },
            "latest_invoice": None,
            "livemode": False,
            "metadata": params.get("metadata") or {},
            "pause_collection": None,
            "start_date": start,
            "status": "trialing" if trial else "active",
            "trial_end": trial,
            "trial_start": start if trial else None,
        }
        return sub

    def _item(self, sub: Object, given: Object, start: int) -> Object:
        price = found(self.world.prices, given["price"], "price", "items[price]")
        if not price["active"] or not price["recurring"]:
            raise Refusal(400, "The price is inactive or not recurring.", param="items[price]")
        item: Object = {
            "id": self.world.id("si"),
            "object": "subscription_item",
            "created": self.world.now_s(),
            "current_period_start": start,
            "current_period_end": period_end(sub["billing_cycle_anchor"], price["recurring"], start),
            "discounts": [],
            "metadata": given.get("metadata") or {},
            "price": shown(price, {}),
            "subscription": sub["id"],
            "tax_rates": [],
        }
        if price["recurring"]["usage_type"] == "licensed":
            item["quantity"] = int(given.get("quantity", 1))
        elif "quantity" in given:
            raise Refusal(400, "A metered price takes no quantity.", param="items[quantity]")
        return item

    def _ahead(self, sub: Object) -> list[Billed]:
        return [(i, i["current_period_start"], i["current_period_end"]) for i in sub["items"]["data"]]

    def due(self) -> list[tuple[int, Object]]:
        """(Unix second, subscription) of the next thing that happens by itself to each."""
        rows = []
        for sub in self.world.subscriptions.values():
            if sub["status"] in ENDED:
                continue
            if sub["status"] == "incomplete":
                rows.append((sub["created"] + 23 * 3600, sub))
                continue
            rows.append((min(i["current_period_end"] for i in sub["items"]["data"]), sub))
            if sub["trial_end"] and sub["id"] not in self.warned and sub["status"] == "trialing":
                rows.append((max(sub["created"], sub["trial_end"] - 3 * DAY_S), sub))
            if sub["cancel_at"]:
                rows.append((sub["cancel_at"], sub))
        return rows

    def run(self, sub: Object) -> None:
        """What is due of it at this moment."""
        now = self.world.now_s()
        if sub["status"] == "incomplete":
            sub["status"] = "incomplete_expired"
            self.invoices.close(self.world.invoices[sub["latest_invoice"]], "void")
            self.world.emit("customer.subscription.updated", sub)
        elif sub["cancel_at"] and sub["cancel_at"] <= now:
            self._end(sub, [b for b in self._ahead(sub) if _metered(b[0])])
        elif min(i["current_period_end"] for i in sub["items"]["data"]) <= now:
            self._renew(sub, now)
        elif sub["id"] not in self.warned:
            self.warned.add(sub["id"])
            self.world.emit("customer.subscription.trial_will_end", sub)

    def _renew(self, sub: Object, now: int) -> None:
        items = [i for i in sub["items"]["data"] if i["current_period_end"] <= now]
        span = (items[0]["current_period_start"], items[0]["current_period_end"])
        free = sub["status"] == "trialing"
        billed = [
            (dict(i), i["current_period_start"], i["current_period_end"]) for i in items if _metered(i) and not free
        ]
        if sub["cancel_at_period_end"]:
            self._end(sub, billed)
            return
        for item in items:
            end = item["current_period_end"]
            recurring = item["price"]["recurring"]
            item["current_period_start"] = end
            item["current_period_end"] = period_end(sub["billing_cycle_anchor"], recurring, end)
        if free:
            sub["status"] = "active"
        billed += [(dict(i), i["current_period_start"], i["current_period_end"]) for i in items if not _metered(i)]
        self.world.emit("customer.subscription.updated", sub)
        self.invoices.draft(sub, "subscription_cycle", billed, span)

    def _end(self, sub: Object, billed: list[Billed]) -> None:
        now = self.world.now_s()
        sub.update(status="canceled", ended_at=now, canceled_at=sub["canceled_at"] or now)
        self.world.emit("customer.subscription.deleted", sub)
        if billed:
            self.invoices.draft(sub, "subscription_cycle", billed, (billed[0][1], min(now, billed[0][2])))

    def cancel(self, key: str, params: Object) -> Object:
        sub = self._open(key)
        now = self.world.now_s()
        billed = [(dict(i), start, now) for i, start, _ in self._ahead(sub) if _metered(i)]
        self._end(sub, billed if flag(params.get("invoice_now", False)) else [])
        return sub

    def _open(self, key: str) -> Object:
        sub = found(self.world.subscriptions, key, "subscription")
        if sub["status"] in ENDED:
            raise Refusal(404, f"No such subscription: '{key}'", code="resource_missing", param="id")
        return sub

    def update(self, key: str, params: Object) -> Object:
        sub = self._open(key)
        changed(sub, params, (), ("cancel_at_period_end",))
        if "cancel_at" in params:
            sub["cancel_at"] = int(params["cancel_at"]) if params["cancel_at"] else None
        if "pause_collection" in params:
            pause = params["pause_collection"]
            sub["pause_collection"] = {"behavior": pause["behavior"], "resumes_at": None} if pause else None
        planned = sub["cancel_at_period_end"] or sub["cancel_at"]
        sub["canceled_at"] = self.world.now_s() if planned else None
        if params.get("trial_end") == "now" and sub["status"] == "trialing":
            sub.update(trial_end=self.world.now_s(), billing_cycle_anchor=self.world.now_s())
            for item in sub["items"]["data"]:
                item["current_period_end"] = self.world.now_s()
        for given in params.get("items", []):
            self._change_item(sub, given)
        self.world.emit("customer.subscription.updated", sub)
        return sub

    def _change_item(self, sub: Object, given: Object) -> None:
        """Another price for an item: flexible billing invoices its usage until now, classic billing drops it."""
        items, now = sub["items"]["data"], self.world.now_s()
        old = next((i for i in items if i["id"] == given.get("id")), None)
        if old is None:
            items.append(self._item(sub, given, now))
            return
        if flag(given.get("deleted", False)):
            if len(items) == 1:
                raise Refusal(400, "A subscription must have at least one item.", param="items")
            items.remove(old)
            return
        if "quantity" in given:
            old["quantity"] = int(given["quantity"])
        if "price" not in given or given["price"] == old["price"]["id"]:
            return
        fresh = {**self._item(sub, given, now), "id": old["id"], "created": old["created"]}
        items[items.index(old)] = fresh
        if _metered(old) and sub["billing_mode"]["type"] == "flexible":
            span = (old["current_period_start"], now)
            self.invoices.draft(sub, "subscription_update", [(old, *span)], span)

    def retrieve(self, key: str, params: Object) -> Object:
        return found(self.world.subscriptions, key, "subscription")

    def list(self, params: Object) -> Object:
        status = params.get("status")
        rows = [s for s in self.world.subscriptions.values() if params.get("customer") in (None, s["customer"])]
        if status is None:
            rows = [s for s in rows if s["status"] not in ENDED]
        elif status == "ended":
            rows = [s for s in rows if s["status"] in ENDED]
        elif status != "all":
            rows = [s for s in rows if s["status"] == status]
        return page(rows, params, "/v1/subscriptions")


def _metered(item: Object) -> bool:
    return bool(item["price"]["recurring"]["usage_type"] == "metered")


class Sessions:
    """Checkout sessions (completed by ``complete``, as a person at the page would) and portal sessions."""

    def __init__(self, world: World, subscriptions: Subscriptions, catalogue: Catalogue) -> None:
        self.world = world
        self.subscriptions = subscriptions
        self.catalogue = catalogue
        self.wanted: dict[str, Object] = {}

    def create(self, params: Object) -> Object:
        for item in params.get("line_items", []):
            found(self.world.prices, item["price"], "price", "line_items[price]")
        if "customer" in params:
            found(self.world.customers, params["customer"], "customer", "customer")
        key = self.world.id("cs_test")
        session: Object = {
            "id": key,
            "object": "checkout.session",
            "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
            "cancel_url": params.get("cancel_url"),
            "client_reference_id": params.get("client_reference_id"),
            "created": self.world.now_s(),
            "custom_fields": [],
            "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
            "customer": params.get("customer"),
            "customer_email": params.get("customer_email"),
            "expires_at": self.world.now_s() + DAY_S,
            "invoice": None,
            "livemode": False,
            "metadata": params.get("metadata") or {},
            "mode": params.get("mode", "payment"),
            "payment_method_types": ["card"],
            "payment_status": "unpaid",
            "shipping_options": [],
            "status": "open",
            "subscription": None,
            "success_url": params.get("success_url"),
            "url": f"https://checkout.stripe.com/c/pay/{key}",
        }
        self.world.sessions[key] = session
        self.wanted[key] = params
        return session

    def retrieve(self, key: str, params: Object) -> Object:
        return found(self.world.sessions, key, "checkout.session")

    def complete(self, key: str) -> Object:
        """The customer filled the page in and paid (or is to pay later, by the payments knob)."""
        session, params = found(self.world.sessions, key, "checkout.session"), self.wanted[key]
        if session["status"] != "open":
            raise Refusal(400, f"The session is {session['status']}.")
        email = session["customer_email"] or "customer@example.com"
        customer = session["customer"] or self.catalogue.create_customer({"email": email})["id"]
        data = params.get("subscription_data") or {}
        wanted = {"customer": customer, "items": params["line_items"], **data}
        sub = self.subscriptions.create(wanted)
        paid = "paid" if sub["status"] != "incomplete" else "unpaid"
        session.update(customer=customer, subscription=sub["id"], invoice=sub["latest_invoice"])
        session.update(status="complete", payment_status="no_payment_required" if sub["trial_end"] else paid, url=None)
        self.world.emit("checkout.session.completed", session)
        return session

    def portal(self, params: Object) -> Object:
        found(self.world.customers, params["customer"], "customer", "customer")
        key = self.world.id("bps")
        return {
            "id": key,
            "object": "billing_portal.session",
            "configuration": params.get("configuration", "bpc_default"),
            "created": self.world.now_s(),
            "customer": params["customer"],
            "flow": None,
            "livemode": False,
            "locale": None,
            "on_behalf_of": None,
            "return_url": params.get("return_url"),
            "url": f"https://billing.stripe.com/p/session/{key}",
        }
