"""Billing: what the book says is asked for once. The SDK is loaded by the first call, not by the import."""

from sidecar.billing.operations import apply_catalogue, plan_catalogue

__all__ = ["apply_catalogue", "plan_catalogue"]
