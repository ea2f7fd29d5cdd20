"""A stateful Stripe of one's own: Billing Meters, catalogue, subscriptions, invoices, checkout and webhooks, in memory.

``FakeStripe`` is the model without sockets; ``demo.fakestripe.server.application`` serves it; ``python -m
demo.fakestripe --port N`` runs it. Its time is a clock of the caller's: nothing happens by itself, ``advance`` (or any
request after the clock was moved) does what fell due. What is modelled names its source in each module's docstring.

Taken where the documentation is silent: an identifier is unique in the whole account, for exactly 24 hours since
receipt; the period is [start, end) to the second; a rejected event frees its identifier (a knob); an hour's newest
event counts by its own timestamp; a graduated price has an invoice line per tier, a flat amount one of quantity 0.

Not modelled: taxes, discounts, prorations, credit grants, alerts, currencies beside the price's, payment methods and
intents, invoice items, schedules, test clocks, Connect, the meter event stream, ``expand`` beyond ``tiers``, parameters
that a call does not know (those the OpenAPI check of the tests refuses).
"""

from demo.fakestripe.model import KEY, FakeStripe
from demo.fakestripe.state import Fault, Knobs, Lost, Refusal, Reply
from demo.fakestripe.webhooks import Delivery, Endpoint

__all__ = ["KEY", "Delivery", "Endpoint", "FakeStripe", "Fault", "Knobs", "Lost", "Refusal", "Reply"]
