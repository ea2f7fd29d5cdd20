"""Prices in every mode, and meters that are billed at Stripe, as they are written and as they are shown."""

from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest
import yaml

from sidecar.config import Overrides, effective, load, schemas
from sidecar.core.errors import ConfigError
from sidecar.core.money import Money
from sidecar.core.policy import MeterPrice, Snapshot, Tier

UPSTREAM = Overrides(upstream="http://127.0.0.1:9000")
TEXT = """
meters:
  a: {count: requests, stripe_event: api_calls, stripe_window: hour}
  b: {from: response.json, path: $.n, stripe_event: "api:b"}
  c: {count: units}
  d: {count: bytes_out}
plans:
  p:
    price:
      base: "29.00 EUR"
      meters:
        a: {included: 5, per: 1_000, amount: "0.50 EUR"}
        b: {mode: package, per: 1_000, amount: "0.50 EUR"}
        c: {mode: graduated, tiers: [{up_to: 100, amount: "0 EUR", flat: "5 EUR"}, {amount: "1 EUR", per: 1_000}]}
        d: {mode: volume, tiers: [{amount: "0.000001 EUR"}]}
"""


def read(folder: Path, text: str, overrides: Overrides = UPSTREAM) -> Snapshot:
    path = folder / "sidecar.yaml"
    path.write_text(text)
    return load(path, overrides, {})


def eur(amount: str) -> Money:
    return Money(Fraction(amount), "EUR")


def test_every_mode(tmp_path: Path) -> None:
    snapshot = read(tmp_path, TEXT)
    price = snapshot.plans["p"].price
    assert price is not None
    assert price.meters == (
        MeterPrice("a", 5, 1_000, eur("0.5")),
        MeterPrice("b", 0, 1_000, eur("0.5"), "package"),
        MeterPrice("c", 0, 1, eur("0"), "graduated", (Tier(100, eur("0"), 1, eur("5")), Tier(None, eur("1"), 1_000))),
        MeterPrice("d", 0, 1, eur("0"), "volume", (Tier(None, eur("0.000001")),)),
    )
    meters = snapshot.meters.values()
    assert [(meter.stripe_event, meter.stripe_window) for meter in meters] == [
        ("api_calls", "hour"),
        ("api:b", "none"),
        (None, "none"),
        (None, "none"),
    ]
    assert [meter.origin.line for meter in meters] == [3, 4, 5, 6]


def test_what_is_shown_loads_to_the_same(tmp_path: Path) -> None:
    one = read(tmp_path, TEXT)
    shown = effective(one)
    jsonschema.Draft202012Validator(schemas()["sidecar.schema.json"]).validate(yaml.safe_load(shown))
    assert read(tmp_path, shown, Overrides()) == one


def test_thirds_are_refused_only_where_stripe_has_to_hold_them(tmp_path: Path) -> None:
    thirds = 'plans: {p: {price: {meters: {m: {per: 3, amount: "1 EUR"}}}}}\n'
    assert read(tmp_path, "meters: {m: {count: requests}}\n" + thirds).plans
    with pytest.raises(ConfigError, match="cannot hold in 12 decimals"):
        read(tmp_path, "meters: {m: {count: requests, stripe_event: e}}\n" + thirds)
    packages = thirds.replace("per: 3", "mode: package, per: 3")
    assert read(tmp_path, "meters: {m: {count: requests, stripe_event: e}}\n" + packages).plans


@pytest.mark.parametrize(
    ("amount", "fault"),
    [
        ("0.0000025 USD", ""),
        ("2.50 USD", "one of .tokens. would cost 2.50 USD, a million 2,500,000.00 USD"),
        ("2500000.00 USD", "one of .tokens. would cost 2,500,000.00 USD"),
        ("0.000000000001 USD", "a billion of .tokens. would cost 0.001 USD in all"),
    ],
)
def test_a_price_a_million_times_off_is_a_fault(tmp_path: Path, amount: str, fault: str) -> None:
    """BerriAI/litellm#20615: too dear or too cheap by a million, before any credits are burned by it."""
    text = (
        "meters: {tokens: {from: response.json, path: $.usage.total_tokens}}\n"
        f"plans: {{pro: {{prepaid: true, price: {{meters: {{tokens: {{amount: '{amount}'}}}}}}}}}}\n"
    )
    if not fault:
        assert read(tmp_path, text).plans["pro"].prepaid
        return
    with pytest.raises(ConfigError, match=fault):
        read(tmp_path, text)
