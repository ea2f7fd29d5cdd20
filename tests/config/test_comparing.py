"""What differs between two sets of policies, and what is said to follow."""

from pathlib import Path

import pytest

from sidecar.config import Overrides, compare, load, policy_set
from sidecar.core.policy import Snapshot

BASE = "{name: a, limit: 10, window: 1m, scope: [tenant]}"


def policies(tmp_path: Path, limit: str, rest: str = "") -> Snapshot:
    file = tmp_path / "sidecar.yaml"
    file.write_text(f"plans: {{free: {{test_keys: free, limits: [{limit}]{rest}}}}}\n")
    return load(file, Overrides(upstream="http://127.0.0.1:9"), {})


@pytest.mark.parametrize(
    ("after", "effect"),
    [
        ("{name: a, limit: 9, window: 1m, scope: [tenant]}", "tighter"),
        ("{name: a, limit: 10, window: 2m, scope: [tenant]}", "tighter"),
        ("{name: a, limit: 11, window: 1m, scope: [tenant]}", "looser"),
        ("{name: a, limit: 10, window: 30s, scope: [tenant]}", "looser"),
        ("{name: a, limit: 20, window: 2m, scope: [tenant]}", ""),
        ("{name: a, limit: 9, window: 1m, scope: [key]}", "its counters start anew"),
        ("{name: a, limit: 10, window: 1m, scope: [tenant], mode: shadow}", "no longer enforced"),
        ("{name: a, limit: 10, window: 1m, scope: [tenant], exact: true}", ""),
    ],
)
def test_what_a_changed_limit_means(tmp_path: Path, after: str, effect: str) -> None:
    old, new = (policy_set(policies(tmp_path, limit)) for limit in (BASE, after))
    (change,) = compare(old, new)
    assert (change.action, change.path, change.plan, change.effect) == (
        "changed",
        "plans.free.limits.a",
        "free",
        effect,
    )
    (back,) = compare(new, old)
    assert back.fields == {name: pair[::-1] for name, pair in change.fields.items()}


def test_a_trial_that_is_enforced_with_another_scope_starts_anew(tmp_path: Path) -> None:
    trial = "{name: a, limit: 10, window: 1m, scope: [tenant], mode: shadow}"
    (change,) = compare(policy_set(policies(tmp_path, trial)), policy_set(policies(tmp_path, BASE)))
    assert change.effect == "enforced from then on, with what it has counted"
    wider = policy_set(policies(tmp_path, "{name: a, limit: 10, window: 1m, scope: [key]}"))
    (change,) = compare(policy_set(policies(tmp_path, trial)), wider)
    assert change.effect == "enforced from then on; its counters start anew"


def test_features_that_go_say_what_becomes_of_routes(tmp_path: Path) -> None:
    old = policy_set(policies(tmp_path, BASE, ", features: [export, report]"))
    new = policy_set(policies(tmp_path, BASE, ", features: [report]"))
    (change,) = compare(old, new)
    assert change.effect == "routes that need export answer 403 feature_not_in_plan"
    assert compare(new, old)[0].effect == ""
    assert compare(old, old) == []


def test_prices_are_compared_meter_by_meter(tmp_path: Path) -> None:
    price = ', price: {{base: "1.00 USD", meters: {{requests: {{included: 10, per: 1_000, amount: "{} USD"}}}}}}'
    text = "meters: {requests: {count: requests}}\n"

    def priced(amount: str) -> dict[str, object]:
        file = tmp_path / "sidecar.yaml"
        file.write_text(f"{text}plans: {{free: {{test_keys: free{price.format(amount)}}}}}\n")
        return policy_set(load(file, Overrides(upstream="http://127.0.0.1:9"), {}))

    (change,) = compare(priced("0.50"), priced("0.60"))
    assert (change.kind, change.path) == ("price", "plans.free.price")
    assert list(change.fields) == ["meters.requests"]
