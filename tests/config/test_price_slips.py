"""A price per unit that was meant per million: seen, and prices that are real let pass (BerriAI/litellm#20615)."""

from pathlib import Path

import pytest

from sidecar.config import Overrides, load, price_lines
from sidecar.core.errors import ConfigError
from sidecar.core.policy import Snapshot

UPSTREAM = Overrides(upstream="http://127.0.0.1:9000")
TOKENS = "{from: response.json, path: $.usage.total_tokens}"


def read(folder: Path, meter: str, price: str, name: str = "m", more: str = "") -> Snapshot:
    path = folder / "sidecar.yaml"
    path.write_text(f"meters: {{{name}: {meter}}}\nplans: {{pro: {{price: {{meters: {{{name}: {price}}}}}{more}}}}}\n")
    return load(path, UPSTREAM, {})


REAL = [
    # Language models in 2026, by the million and by the thousand.
    *[(TOKENS, f'{{per: 1_000_000, amount: "{usd} USD"}}') for usd in ("0.05", "0.15", "2.50", "15", "150", "600")],
    (TOKENS, '{per: 1_000, amount: "0.06 USD"}'),
    (TOKENS, '{mode: package, per: 1_000_000, amount: "2.50 USD"}'),
    (TOKENS, '{mode: graduated, tiers: [{up_to: 1_000_000, amount: "0 USD"}, {amount: "2.50 USD", per: 1_000_000}]}'),
    # Things that are dear each: map tiles, SMS, images, checks of a person, reports.
    *[("{count: requests}", f'{{amount: "{usd} USD"}}') for usd in ("0.0005", "0.0075", "0.04", "2.50", "50", "900")],
    *[
        (f"{{from: response.json, path: $.{path}}}", f'{{amount: "{usd} USD"}}')
        for path, usd in (("images", "0.19"), ("pages", "1.50"), ("sms.segments", "0.08"), ("credits", "0.01"))
    ],
    ("{from: response.json, path: $.reports}", '{amount: "250 USD"}'),
    ("{count: messages}", '{amount: "0.10 USD"}'),
    # Traffic by the gigabyte and time by the hour, also of the dearest machines.
    ("{count: bytes_out}", '{per: 1_000_000_000, amount: "0.09 USD"}'),
    ("{count: bytes_out}", '{per: 1_000_000, amount: "0.50 USD"}'),
    ("{count: upstream_ms}", '{per: 3_600_000, amount: "98 USD"}'),
    ("{count: connection_s}", '{per: 60, amount: "0.30 USD"}'),
    # Weak currencies.
    (TOKENS, '{per: 1_000_000, amount: "22500 JPY"}'),
    ("{count: requests}", '{amount: "750000 VND"}'),
]


@pytest.mark.parametrize(("meter", "price"), REAL)
def test_real_prices_pass(tmp_path: Path, meter: str, price: str) -> None:
    assert read(tmp_path, meter, price).plans["pro"].price


SLIPS = [
    *[(TOKENS, f'{{amount: "{usd} USD"}}') for usd in ("0.05", "0.15", "2.50", "15", "150")],
    ("{from: response.sse, path: $.usage.output_tokens}", '{amount: "2.50 USD"}'),
    ("{from: response.json, path: $.usageMetadata.totalTokenCount}", '{amount: "2.50 USD"}'),
    ("{from: response.header, header: X-Tokens-Used}", '{amount: "2.50 USD"}'),
    ("{from: response.json, path: $.characters}", '{amount: "16 USD"}'),
    (TOKENS, '{mode: graduated, tiers: [{up_to: 1_000, amount: "0 USD"}, {amount: "2.50 USD"}]}'),
    (TOKENS, '{mode: package, amount: "2.50 USD"}'),
    ("{count: bytes_out}", '{amount: "0.09 USD"}'),
    ("{count: bytes_in}", '{per: 1_000, amount: "0.50 USD"}'),
    ("{count: upstream_ms}", '{amount: "2.00 USD"}'),
    ("{count: connection_s}", '{amount: "98 USD"}'),
]


@pytest.mark.parametrize(("meter", "price"), SLIPS)
def test_slips_are_faults_unless_they_are_meant(tmp_path: Path, meter: str, price: str) -> None:
    with pytest.raises(ConfigError, match=r"one of .m. would cost .* a million .*; write what it is for"):
        read(tmp_path, meter, price)
    assert read(tmp_path, meter, f"{{dear: true, {price[1:]}").plans["pro"].price


def test_a_name_says_what_a_value_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of"):
        read(tmp_path, "{from: response.json, path: $.n}", '{amount: "2.50 USD"}', name="input_tokens")
    assert read(tmp_path, "{from: response.json, path: $.tokens.images}", '{amount: "0.50 USD"}')


def test_a_call_by_its_weight_or_its_estimate(tmp_path: Path) -> None:
    """A value whose name says nothing, 2.50 USD each, and some 2,000 of them a call."""
    quota = ", quotas: [{name: q, meter: m, limit: 100_000, period: month, estimate: 2_000}]"
    value, price = "{from: response.json, path: $.n}", '{amount: "2.50 USD"}'
    assert read(tmp_path, value, price)
    head = "routes: [{name: chat, match: {path: /chat}, units: 5_000}]\n"
    path = tmp_path / "sidecar.yaml"
    for meter, more, why in ((value, quota, "the estimate of 2,000"), ("{count: units}", "", "its weight of 5,000")):
        path.write_text(f"{head}meters: {{m: {meter}}}\nplans: {{pro: {{price: {{meters: {{m: {price}}}}}{more}}}}}\n")
        with pytest.raises(ConfigError, match=rf"one call of the route .chat. would cost .*, by {why}"):
            load(path, UPSTREAM, {})
        path.write_text(path.read_text().replace("{amount", "{dear: true, amount"))
        assert load(path, UPSTREAM, {})


def test_what_units_cost_is_told(tmp_path: Path) -> None:
    snapshot = read(tmp_path, TOKENS, '{included: 5_000, per: 1_000_000, amount: "2.50 USD"}')
    assert price_lines(snapshot) == [("pro", "m", ("0.0000025 USD", "0.0025 USD", "2.50 USD"))]
    steps = '{mode: graduated, tiers: [{up_to: 1_000, amount: "0.01 USD"}, {amount: "1 USD", per: 1_000}]}'
    (line,) = price_lines(read(tmp_path, "{count: requests}", steps))
    assert line[2] == ("0.01 USD", "10.00 USD", "1,009.00 USD")
