"""Products, prices and meters at Stripe, made out of the policies: one place says what things cost."""

from sidecar.billing.catalogue.applying import apply, drift, plan
from sidecar.billing.catalogue.desired import lookup_key, lookup_keys, product_id
from sidecar.billing.catalogue.difference import Difference

__all__ = ["Difference", "apply", "drift", "lookup_key", "lookup_keys", "plan", "product_id"]
