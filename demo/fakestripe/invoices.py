"""Invoices: draft with a grace, finalisation, payment and dunning.

After docs.stripe.com "Configure grace period" (an hour by default; usage stamped within the period counts until the
invoice is final, later usage is never billed), "Subscription webhooks" (an invoice.created that is not answered delays
finalisation up to 72 hours) and "Automatic collection" (retries, then unpaid or canceled).
"""

import copy
from decimal import Decimal

from demo.fakestripe.catalogue import changed, charges, plain, shown
from demo.fakestripe.meters import Meters
from demo.fakestripe.state import DAY_S, Object, Refusal, World, found, page

Billed = tuple[Object, int, int]  # a subscription item, and the period of its line


class Invoices:
    """The invoices of the account; ``billed`` holds what a draft is made of."""

    def __init__(self, world: World, meters: Meters) -> None:
        self.world = world
        self.meters = meters
        self.billed: dict[str, list[Billed]] = {}

    def draft(self, sub: Object, reason: str, items: list[Billed], span: tuple[int, int]) -> Object:
        now = self.world.now_s()
        at_once = reason == "subscription_create"
        held = (sub["pause_collection"] or {}).get("behavior") == "keep_as_draft"
        key = self.world.id("in")
        invoice: Object = {
            "id": key,
            "object": "invoice",
            "attempt_count": 0,
            "attempted": False,
            "auto_advance": not held,
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None, "status": None},
            "automatically_finalizes_at": None if held else now + (0 if at_once else self.world.knobs.grace_s),
            "billing_reason": reason,
            "collection_method": sub["collection_method"],
            "created": now,
            "currency": sub["currency"],
            "customer": sub["customer"],
            "default_tax_rates": [],
            "discounts": [],
            "due_date": None,
            "hosted_invoice_url": None,
            "issuer": {"type": "self"},
            "livemode": False,
            "metadata": {},
            "next_payment_attempt": None,
            "number": None,
            "parent": {
                "type": "subscription_details",
                "quote_details": None,
                "subscription_details": {"metadata": dict(sub["metadata"]), "subscription": sub["id"]},
            },
            "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
            "period_start": span[0],
            "period_end": span[1],
            "post_payment_credit_notes_amount": 0,
            "pre_payment_credit_notes_amount": 0,
            "starting_balance": 0,
            "status": "draft",
            "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
            "webhooks_delivered_at": now,
        }
        self.world.invoices[key] = invoice
        self.billed[key] = items
        sub["latest_invoice"] = key
        self.refresh(invoice)
        self.world.emit("invoice.created", invoice)
        return invoice

    def refresh(self, invoice: Object) -> Object:
        """Brings the lines of a draft up to date with the meters; of any other invoice nothing changes."""
        if invoice["status"] == "draft":
            lines = [line for billed in self.billed[invoice["id"]] for line in self._lines(invoice, billed)]
            total = sum(line["amount"] for line in lines)
            url = f"/v1/invoices/{invoice['id']}/lines"
            invoice["lines"] = {"object": "list", "data": lines, "has_more": False, "url": url}
            invoice.update(dict.fromkeys(("amount_due", "amount_remaining", "subtotal", "total"), total))
            invoice.update(dict.fromkeys(("amount_paid", "amount_paid_off_stripe"), 0))
            invoice.update(amount_overpaid=0, amount_shipping=0, ending_balance=None)
        return invoice

    def _lines(self, invoice: Object, billed: Billed) -> list[Object]:
        item, start, end = billed
        price = self.world.prices[item["price"]["id"]]
        meter = self.world.meters.get((price["recurring"] or {}).get("meter") or "")
        quantity = Decimal(item.get("quantity", 1))
        if meter is not None:
            quantity = self.meters.total(meter, invoice["customer"], start, end)
        return [_line(invoice, billed, number, *charge) for number, charge in enumerate(charges(price, quantity))]

    def due(self) -> list[tuple[int, Object]]:
        """(Unix second, invoice) of what is to be finalised or collected again."""
        rows = []
        for invoice in self.world.invoices.values():
            if invoice["status"] == "draft" and invoice["auto_advance"]:
                unheard = invoice["id"] in self.world.unheard
                at = invoice["created"] + 3 * DAY_S if unheard else invoice["automatically_finalizes_at"]
                rows.append((at, invoice))
            elif invoice["status"] == "open" and invoice["next_payment_attempt"]:
                rows.append((invoice["next_payment_attempt"], invoice))
        return rows

    def run(self, invoice: Object) -> None:
        """What is due of it: finalisation with the first attempt, or another attempt."""
        if invoice["status"] == "draft":
            self.finalize(invoice)
        if invoice["status"] == "open":
            self.collect(invoice)

    def finalize(self, invoice: Object) -> None:
        if invoice["status"] != "draft":
            raise Refusal(400, "This invoice is already finalized.", code="invoice_not_editable")
        self.refresh(invoice)
        invoice.update(status="open", automatically_finalizes_at=None, number=f"FAKE-{len(self.world.invoices):04}")
        invoice["status_transitions"]["finalized_at"] = self.world.now_s()
        invoice["effective_at"] = self.world.now_s()
        invoice["hosted_invoice_url"] = f"https://invoice.stripe.com/i/{invoice['id']}"
        self.world.unheard.discard(invoice["id"])
        self.world.emit("invoice.finalized", invoice)
        pause = (self._subscription(invoice)["pause_collection"] or {}).get("behavior")
        if pause in ("void", "mark_uncollectible"):
            self.close(invoice, "void" if pause == "void" else "uncollectible")

    def collect(self, invoice: Object) -> bool:
        """One attempt to collect; the subscription's status follows."""
        invoice.update(attempted=True, attempt_count=invoice["attempt_count"] + 1)
        sub = self._subscription(invoice)
        if invoice["amount_remaining"] == 0 or self.world.knobs.payments.get(invoice["customer"], "ok") == "ok":
            self._paid(invoice, sub)
            return True
        days, tries = self.world.knobs.dunning_days, invoice["attempt_count"]
        first = invoice["billing_reason"] == "subscription_create"
        more = not first and tries <= len(days)
        invoice["next_payment_attempt"] = self.world.now_s() + days[tries - 1] * DAY_S if more else None
        self.world.emit("invoice.payment_failed", invoice)
        if sub["status"] != "canceled":
            final = {"cancel": "canceled"}.get(self.world.knobs.after_dunning, self.world.knobs.after_dunning)
            self._status(sub, "incomplete" if first else "past_due" if more else final)
        return False

    def _paid(self, invoice: Object, sub: Object) -> None:
        total = invoice["amount_due"]
        invoice.update(status="paid", amount_paid=total, amount_remaining=0, next_payment_attempt=None)
        invoice["status_transitions"]["paid_at"] = self.world.now_s()
        self.world.emit("invoice.paid", invoice)
        self.world.emit("invoice.payment_succeeded", invoice)
        others = (i for i in self.world.invoices.values() if i["status"] == "open")
        owing = any(i["parent"]["subscription_details"]["subscription"] == sub["id"] for i in others)
        if sub["status"] in ("incomplete", "past_due", "unpaid") and not owing:
            self._status(sub, "active")

    def _status(self, sub: Object, status: str) -> None:
        if sub["status"] == status:
            return
        sub["status"] = status
        if status == "canceled":
            sub.update(canceled_at=self.world.now_s(), ended_at=self.world.now_s())
        self.world.emit(f"customer.subscription.{'deleted' if status == 'canceled' else 'updated'}", sub)

    def _subscription(self, invoice: Object) -> Object:
        return self.world.subscriptions[invoice["parent"]["subscription_details"]["subscription"]]

    def close(self, invoice: Object, status: str) -> None:
        """Voided or given up; both end collection."""
        if invoice["status"] not in ("open", "uncollectible"):
            raise Refusal(400, f"An invoice that is {invoice['status']} cannot become {status}.")
        name = "voided" if status == "void" else "marked_uncollectible"
        invoice.update(status=status, next_payment_attempt=None)
        invoice["status_transitions"][f"{name}_at"] = self.world.now_s()
        self.world.emit(f"invoice.{name}", invoice)

    def retrieve(self, key: str, params: Object) -> Object:
        return self.refresh(found(self.world.invoices, key, "invoice"))

    def lines(self, key: str, params: Object) -> Object:
        invoice = self.retrieve(key, params)
        return page(invoice["lines"]["data"], params, f"/v1/invoices/{key}/lines", newest_first=False)

    def update(self, key: str, params: Object) -> Object:
        invoice = self.retrieve(key, params)
        changed(invoice, params, (), ("auto_advance",))
        if invoice["status"] == "draft":
            at = params.get("automatically_finalizes_at") or self.world.now_s() + self.world.knobs.grace_s
            kept = invoice["automatically_finalizes_at"]
            fresh = int(at) if "automatically_finalizes_at" in params or kept is None else kept
            invoice["automatically_finalizes_at"] = fresh if invoice["auto_advance"] else None
        self.world.emit("invoice.updated", invoice)
        return invoice

    def act(self, key: str, action: str) -> Object:
        """finalize, pay, void or mark_uncollectible, as the paths of the API name them."""
        invoice = self.retrieve(key, {})
        if action == "finalize":
            self.finalize(invoice)
        elif action == "pay":
            if invoice["status"] == "draft":
                self.finalize(invoice)
            if invoice["status"] != "open":
                raise Refusal(400, "Invoice is already paid.", code="invoice_already_paid")
            if not self.collect(invoice):
                raise Refusal(402, "Your card was declined.", kind="card_error", code="card_declined")
        else:
            self.close(invoice, "void" if action == "void" else "uncollectible")
        return invoice

    def list(self, params: Object) -> Object:
        rows = [
            self.refresh(i)
            for i in self.world.invoices.values()
            if params.get("customer") in (None, i["customer"])
            and params.get("status") in (None, i["status"])
            and params.get("subscription") in (None, i["parent"]["subscription_details"]["subscription"])
        ]
        created = params.get("created") or {}
        if isinstance(created, dict):
            rows = [i for i in rows if i["created"] >= int(created.get("gte", 0))]
        return page(rows, params, "/v1/invoices")


def _line(invoice: Object, billed: Billed, number: int, quantity: Decimal, amount: int, unit: str) -> Object:
    item, start, end = billed
    price = shown(item["price"], {})
    detail = {"invoice_item": None, "proration": False, "proration_details": {"credited_items": None}}
    detail |= {"subscription": item["subscription"], "subscription_item": item["id"]}
    return {
        "id": f"il_{invoice['id'][3:]}{item['id'][-6:]}{number}",
        "object": "line_item",
        "amount": amount,
        "currency": invoice["currency"],
        "description": f"{plain(quantity)} at {unit}",
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": False,
        "metadata": {},
        "parent": {
            "type": "subscription_item_details",
            "invoice_item_details": None,
            "subscription_item_details": copy.deepcopy(detail),
        },
        "period": {"start": start, "end": end},
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price["id"], "product": price["product"]},
            "unit_amount_decimal": unit,
        },
        "quantity": int(quantity),
        "quantity_decimal": plain(quantity),
        "subscription": item["subscription"],
        "subtotal": amount,
        "taxes": [],
    }
