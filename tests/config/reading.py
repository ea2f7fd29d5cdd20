"""One file, read."""

from pathlib import Path

import pytest

from sidecar.config import Overrides, load
from sidecar.core.errors import ConfigError
from sidecar.core.policy import Snapshot

ROOT = Path(__file__).parents[2]
UPSTREAM = Overrides(upstream="http://127.0.0.1:9000")
SECRET = "k" * 40
FULL = """
listen: "[::]:8443"
admin: {listen: 127.0.0.1:9902, token: ${T}, hosts: [ops.example]}
drain: 90s
bounds: {max_body: 10MB, buffer: 4096B}
journal: {durability: sync, segment: 1MiB, max: 3MiB, on_full: serve_unbilled}
trusted_proxies: [10.0.0.0/8, "::1"]
keep_events: 1.5d
upstreams:
  a: {targets: ["http://a.example", "https://b.example:8443"], health: {path: /h, every: 5s}, preserve_host: true}
  b: {targets: ["http://c.example"], timeouts: {connect: 250ms}, breaker: {failures: 2}}
identity:
  api_key: {header: X-Key, query: key, brand: acme, strip: false, cache: 10s, peppers: [{id: p1, secret: ${T}}]}
  jwt:
    - {issuer: i1, audience: a, tenant_claim: org, jwks: "https://i.example/k", algorithms: [ES256], leeway: 1m}
    - {issuer: i2, audience: a, tenant_claim: org, secret: ${T}, plan_claim: plan}
  upstream_jwt: {ttl: 30s}
meters:
  calls: {count: requests, statuses: [2xx, 3xx, 4xx], routes: [r1]}
routes:
  - {name: r1, match: {methods: [POST, GET], host: api.example.com, path: "/x/{id}/{rest...}"}, upstream: a, units: 3,
     feature: f, scopes: [read, write], on_disconnect: drain, max_body: 1MiB, announce: {latency: true}}
  - {name: r2, match: {path: "/open"}, upstream: b, auth: none, plan: p}
plans:
  p:
    limits: [{name: l, limit: 10, window: 1.5s, scope: [tenant, "header:x-org"]}]
    concurrency: [{name: c, limit: 5, scope: [key]}]
    quotas: [{name: q, meter: calls, limit: 0, period: week, overage: bill}]
    features: [f, g]
    price: {base: "29.00 EUR", meters: {calls: {included: 5, per: 1_000, amount: "0.333333333333 EUR"}}}
    test_keys: p
    upgrade: "see https://example.com/${X}: more"
tenants: {a.b_c-d: {plan: p, state: grace}}
costs: {per_call: "0.000001 EUR"}
"""


def read(folder: Path, text: str, overrides: Overrides = UPSTREAM, **environ: str) -> Snapshot:
    """The snapshot of one file in ``folder``."""
    path = folder / "sidecar.yaml"
    path.write_text(text)
    return load(path, overrides, environ)


def told(folder: Path, text: str, overrides: Overrides = UPSTREAM, **environ: str) -> list[str]:
    """The messages of the faults of one file."""
    with pytest.raises(ConfigError) as raised:
        read(folder, text, overrides, **environ)
    return [fault.message for fault in raised.value.faults]
