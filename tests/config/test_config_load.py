"""What files, command line and environment become."""

import dataclasses
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest
import yaml

from sidecar.config import Overrides, effective, load, reference, schemas
from sidecar.config.__main__ import generated
from sidecar.config.loading import built_in
from sidecar.config.meters import HIDDEN, HIDDEN_TRAILERS
from sidecar.core.errors import ConfigError
from sidecar.core.policy import Extract, Multiply
from sidecar.core.upstreams import Target
from sidecar.core.values import AccessState
from sidecar.http1 import read_reply, trailer_lines
from tests.config.reading import FULL, ROOT, SECRET, UPSTREAM, read, told


def test_shipped_policies_are_the_built_in_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = load(ROOT / "sidecar.yaml", Overrides(), {})
    monkeypatch.chdir(tmp_path)
    own = load(None, UPSTREAM, {})
    for part in ("meters", "routes", "plans", "tenants", "costs", "upstreams"):
        assert getattr(shipped, part) == getattr(own, part), part
    assert dict(own.meters) == built_in()["meters"]


def test_built_in_plans_are_the_promised_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plans = load(None, UPSTREAM, {}).plans
    windows = {name: {(limit.limit, limit.window_ns // 10**9) for limit in plan.limits} for name, plan in plans.items()}
    assert windows == {
        "sandbox": {(5, 1), (50, 60)},
        "free": {(10, 1), (100, 60)},
        "pro": {(100, 1), (6_000, 60)},
        "scale": {(100_000, 1)},
    }
    quotas = {
        name: [(quota.limit, quota.period, quota.overage) for quota in plan.quotas] for name, plan in plans.items()
    }
    assert quotas == {
        "sandbox": [(1_000, "day", "block")],
        "free": [(10_000, "month", "block")],
        "pro": [(100_000, "month", "bill")],
        "scale": [(10_000_000, "month", "bill")],
    }
    assert {plan.test_keys for plan in plans.values()} == {"sandbox"}


def test_shipped_file_needs_no_environment() -> None:
    snapshot = load(ROOT / "sidecar.yaml", Overrides(), {})
    assert (snapshot.settings.listen_host, snapshot.settings.listen_port) == ("0.0.0.0", 8080)
    assert snapshot.settings.admin.token is None
    assert snapshot.upstreams["api"].targets == (Target("http", "127.0.0.1", 9000),)
    assert snapshot.settings.storage == f"sqlite:///{ROOT}/data/sidecar.db"


def test_without_file_and_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"sidecar\.yaml: there is no upstream to protect; start with --upstream http://"
    ):
        load(None, Overrides(), {})
    bare = load(None, Overrides(), {}, needs_upstream=False)
    assert (bare.upstreams, bare.routes, set(bare.plans)) == ({}, (), {"sandbox", "free", "pro", "scale"})


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "rules.yaml").write_text("plans: {only: {limits: []}}\n")
    snapshot = read(tmp_path, "data: var\nstorage: sqlite:///db/x.db\npolicies: rules.yaml\n")
    assert snapshot.settings.data == str(tmp_path / "var")
    assert snapshot.settings.storage == f"sqlite:///{tmp_path}/db/x.db"
    assert set(snapshot.plans) == {"only"}
    assert snapshot.plans["only"].origin.file == str(tmp_path / "rules.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("drain: 1s", "{new}/sidecar.db"),
        ("data: d", "{new}/sidecar.db"),
        ("storage: sqlite:///data/other.db", "{new}/other.db"),
        ("storage: sqlite:///elsewhere/x.db", "{old}/elsewhere/x.db"),
        ("storage: sqlite:////srv/x.db", "/srv/x.db"),
    ],
)
def test_database_moves_with_the_data_folder(tmp_path: Path, text: str, expected: str) -> None:
    new = tmp_path / "new"
    snapshot = read(tmp_path, text, dataclasses.replace(UPSTREAM, data=str(new)))
    assert snapshot.settings.data == str(new)
    assert snapshot.settings.storage == "sqlite:///" + expected.format(new=new, old=tmp_path)


def test_command_line_wins(tmp_path: Path) -> None:
    text = (
        "upstreams: {orders: {targets: [https://a.example, https://b.example], max_waiting: 7}}\nlisten: 0.0.0.0:80\n"
    )
    snapshot = read(tmp_path, text, Overrides("http://[::1]:9000", "127.0.0.1:0", "[::1]:9902"))
    orders = snapshot.upstreams["orders"]
    assert (orders.targets, orders.max_waiting) == ((Target("http", "::1", 9000),), 7)
    assert (snapshot.settings.listen_host, snapshot.settings.listen_port) == ("127.0.0.1", 0)
    assert (snapshot.settings.admin.host, snapshot.settings.admin.port) == ("::1", 9902)
    assert [route.upstream for route in snapshot.routes] == ["orders"]


def test_upstream_option_with_several_upstreams(tmp_path: Path) -> None:
    text = 'upstreams: {a: {targets: ["http://a.example"]}, b: {targets: ["http://b.example"]}}\n'
    text += "routes: [{name: r, match: {path: /}, upstream: a}]\n"
    assert told(tmp_path, text) == [
        f"there are several upstreams in {tmp_path}/sidecar.yaml (a, b); write the target there"
    ]


def test_own_meters_with_built_in_plans(tmp_path: Path) -> None:
    """The built-in plans bring the meters that they count with, and a meter that they do not see is still a fault."""
    snapshot = read(tmp_path, "meters: {requests: {count: requests, statuses: [2xx, 4]}}\n")
    assert set(snapshot.meters) == {"requests", "units"}
    assert snapshot.meters["requests"].statuses == {2, 4}
    assert told(tmp_path, "meters: {bytes: {count: bytes_out}}\n")[0].startswith("no quota or price sees the meter")


def test_own_plans_end_the_built_in_costs(tmp_path: Path) -> None:
    assert read(tmp_path, "drain: 1s\n").costs.per_ms > 0
    assert read(tmp_path, "plans: {a: {limits: []}}\n").costs.per_ms == 0


def test_interpolation(tmp_path: Path) -> None:
    text = "listen: 0.0.0.0:${PORT}\nadmin: {listen: 127.0.0.1:${ADMIN:-9999}, hosts: ['${A}${B:-}.example']}\n"
    text += "plans: {p: {limits: [{name: a, limit: ${LIMIT}, window: ${W:-1m}}], upgrade: 'costs $${X}'}}\n"
    text += "identity: {api_key: {bearer: ${BEARER}}}\n"
    snapshot = read(tmp_path, text, PORT="81", A="a", LIMIT="1_000", BEARER="false", B="", ADMIN="")
    assert (snapshot.settings.listen_port, snapshot.settings.admin.port) == (81, 9999)
    assert snapshot.settings.admin.hosts == ("a.example",)
    limit = snapshot.plans["p"].limits[0]
    assert (limit.limit, limit.window_ns) == (1_000, 60 * 10**9)
    assert snapshot.plans["p"].upgrade == "costs ${X}"
    assert not snapshot.settings.identity.api_key.bearer


def test_environment_cannot_add_yaml(tmp_path: Path) -> None:
    messages = told(tmp_path, "data: ${D}\n", D="x\nlisten: 0.0.0.0:1")
    assert len(messages) == 1 and "printable" in messages[0]
    assert told(tmp_path, "drain: ${D}\n", D="{a: b}")[0].startswith('"${D}" is not a duration')


def test_what_a_variable_holds_is_in_no_message(tmp_path: Path) -> None:
    """A secret in the wrong place is not told to the terminal and the log."""
    text = "drain: ${S}\nlimits: ${S}\nlisten: ${S}\n"
    text += "upstreams: {api: {targets: ['${S}'], max_waiting: ${S}}}\n"
    messages = "\n".join(told(tmp_path, text, Overrides(), S="hunter2-hunter2"))
    assert "hunter2" not in messages


def test_secrets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 20 + "\n")
    text = "admin: {token: 'file:${WHERE}'}\nidentity:\n"
    text += "  api_key: {peppers: [{id: b, secret: ${B}}, {id: a, secret: ${A}}]}\n"
    text += "  jwt: [{issuer: i, audience: a, tenant_claim: org, secret: ${J}}]\n"
    snapshot = read(tmp_path, text, WHERE="token", A="a" * 20, B="b" * 20, J=SECRET)
    identity = snapshot.settings.identity
    assert snapshot.settings.admin.token == "t" * 20
    assert list(identity.api_key.peppers.items()) == [("b", "b" * 20), ("a", "a" * 20)]
    assert identity.jwt[0].algorithms == ("HS256",)
    shown = effective(snapshot) + repr(snapshot)
    assert not any(secret in shown for secret in ("t" * 20, "a" * 20, "b" * 20, SECRET))
    assert read(tmp_path, 'admin: {token: "${T:-}"}\n').settings.admin.token is None


def test_two_peppers_of_one_id(tmp_path: Path) -> None:
    text = "identity: {api_key: {peppers: [{id: a, secret: ${S}}, {id: a, secret: ${S}}]}}\n"
    assert told(tmp_path, text, S=SECRET) == ['two peppers have the id "a"; write each once']


def test_link_local_can_be_allowed(tmp_path: Path) -> None:
    text = 'upstreams: {api: {targets: ["http://169.254.1.1"], allow_link_local: true}}\n'
    assert read(tmp_path, text, Overrides()).upstreams["api"].targets[0].host == "169.254.1.1"


def test_limits_that_can_bind(tmp_path: Path) -> None:
    """Equal rates, other scopes and shorter windows with smaller numbers are no faults."""
    text = """
plans:
  a:
    limits:
      - {name: second, limit: 100, window: 1s}
      - {name: minute, limit: 6_000, window: 1m}
      - {name: ip, limit: 100_000, window: 1m, scope: [ip]}
      - {name: route, limit: 50, window: 1s, scope: [tenant, route]}
      - {name: org, limit: 20, window: 1s, scope: [key, "header:X-Org"]}
"""
    assert read(tmp_path, text).plans["a"].limits[4].scope == ("key", "header:x-org")


def test_routes_that_can_match(tmp_path: Path) -> None:
    """A route that names its methods goes before one for all, wherever it stands; HEAD may come before GET."""
    text = """
routes:
  - {name: all, match: {path: "/a/{x}"}}
  - {name: get, match: {methods: [GET], path: "/a/{id}"}}
  - {name: head, match: {methods: [HEAD], path: "/b c/é"}}
  - {name: get-too, match: {methods: [GET], path: "/b c/é"}}
  - {name: host, match: {host: "*.example.com", path: "/a/{x}"}, auth: none}
tenants: {acme: {plan: free, state: read_only, stripe_customer: cus_1}}
"""
    snapshot = read(tmp_path, text)
    assert [route.name for route in snapshot.routes] == ["all", "get", "head", "get-too", "host"]
    assert snapshot.tenants["acme"].state is AccessState.READ_ONLY


METERS = """
meters:
  a: {count: messages}
  b: {count: connection_s}
  c: {from: response.json, path: $.usage.total_tokens}
  d: {from: [response.header, response.trailer, response.sse, response.json], header: X-Tokens,
      path: '$["a b"][0]["q\\""][-1].é', take: sum, default: 0, statuses: [2xx, 4xx],
      multiply: {path: $.model, by: {gpt-x: 2, "openai/gpt-y:free": "0.5", "4": 1_000.25}, otherwise: 0.000000001}}
  e: {from: response.header, header: X-N, multiply: {header: X-Model, by: {a: 3}}}
  f: {from: response.ndjson, path: $, take: max}
plans:
  p:
    price: {meters: {a: {amount: "1 USD"}, b: {amount: "1 USD"},
                     c: {amount: "1 USD", dear: true}, d: {amount: "0.01 USD"},
                     e: {amount: "1 USD"}, f: {amount: "1 USD"}}}
"""


def test_meters(tmp_path: Path) -> None:
    meters = read(tmp_path, METERS).meters
    assert (meters["a"].count, meters["a"].statuses) == ("messages", {1})
    assert (meters["b"].count, meters["b"].statuses) == ("connection_s", {1, 2, 3})
    assert (meters["c"].count, meters["c"].statuses, meters["c"].default) == ("reply", {2, 3}, None)
    assert meters["c"].extract == Extract(("json",), path=("usage", "total_tokens"))
    assert meters["d"].extract == Extract(
        ("header", "trailer", "sse", "json"), "x-tokens", ("a b", 0, 'q"', -1, "é"), "sum"
    )
    factors = {"gpt-x": Fraction(2), "openai/gpt-y:free": Fraction(1, 2), "4": Fraction(4001, 4)}
    assert meters["d"].multiply == Multiply(
        Extract(("sse", "json"), path=("model",)), factors, Fraction(1, 1_000_000_000)
    )
    assert meters["d"].default == 0
    assert meters["e"].multiply == Multiply(Extract(("header",), "x-model"), {"a": Fraction(3)})
    assert meters["f"].extract == Extract(("ndjson",), path=(), take="max")
    assert {meter.origin.line for meter in meters.values()} == {3, 4, 5, 6, 9, 10}


def test_meters_on_fields_that_never_cross_are_refused() -> None:
    """What the sidecar takes out of a reply can never be read from it.

    field-bugs 21: apache/apisix-website#2028; wso2/api-platform#2932.
    """
    fields = [(name.encode(), b"1") for name in HIDDEN - {"transfer-encoding"}]
    assert read_reply(200, b"1.1", [*fields, (b"X-Tokens", b"1")], head_request=False).block == b"X-Tokens: 1\r\n"
    trailers = [(name.encode(), b"1") for name in HIDDEN | HIDDEN_TRAILERS]
    assert trailer_lines([*trailers, (b"X-Tokens", b"1")]) == b"X-Tokens: 1\r\n"


@pytest.mark.parametrize(
    "text",
    [FULL, METERS, "drain: 1s\n", "plans: {a: {limits: []}}\n"],
    ids=["full", "meters", "defaults", "plans without meters"],
)
def test_effective_loads_to_the_same(tmp_path: Path, text: str) -> None:
    one = read(tmp_path, text, UPSTREAM if text != FULL else Overrides(), T=SECRET, X="x")
    shown = effective(one)
    jsonschema.Draft202012Validator(schemas()["sidecar.schema.json"]).validate(yaml.safe_load(shown))
    again = read(tmp_path, shown, Overrides(), MASKED=SECRET)
    assert again == one


def test_effective_without_upstream(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text("drain: 1s\n")
    one = load(path, Overrides(), {}, needs_upstream=False)
    path.write_text(effective(one))
    assert load(path, Overrides(), {}, needs_upstream=False) == one


@pytest.mark.parametrize("number", range(2))
def test_examples_of_meters_load(tmp_path: Path, number: int) -> None:
    blocks = (ROOT / "docs/meters.md").read_text().split("```yaml\n")[1:]
    assert len(blocks) == 2
    assert read(tmp_path, blocks[number].partition("```")[0]).meters


@pytest.mark.parametrize("number", range(6))
def test_examples_of_the_guide_load(tmp_path: Path, number: int) -> None:
    blocks = (ROOT / "docs/policies.md").read_text().split("```yaml\n")[1:]
    assert len(blocks) == 6
    assert read(tmp_path, blocks[number].partition("```")[0]).plans


def test_generated_files_equal_the_code() -> None:
    for path, text in generated().items():
        assert (ROOT / path).read_text() == text, f"run: python -m sidecar.config . ({path})"
    assert reference().startswith("# Configuration")


@pytest.mark.parametrize("path", ["sidecar.yaml", *(f"policies/{n}.yaml" for n in ("meters", "plans", "routes"))])
def test_shipped_file_fits_the_schema_that_it_names(path: str) -> None:
    file = ROOT / path
    first = file.read_text().splitlines()[0]
    schema = json.loads((file.parent / first.removeprefix("# yaml-language-server: $schema=")).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize(
    "name",
    "unknown_key unknown_key_nested value_for_list value_for_mapping duration_without_unit money_without_currency "
    "scope_unknown secret_in_clear limit_zero number_with_commas path_own plans_empty targets_missing "
    "tenant_state jwt_none".split(),
)
def test_broken_shape_does_not_fit_the_schema(name: str) -> None:
    validator = jsonschema.Draft202012Validator(schemas()["sidecar.schema.json"])
    assert not validator.is_valid(yaml.safe_load((ROOT / f"tests/policies/{name}.yaml").read_text()))


def test_loading_needs_no_aiohttp() -> None:
    code = "import sys, sidecar.config; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
