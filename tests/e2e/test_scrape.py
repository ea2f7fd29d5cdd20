"""What Prometheus and an orchestrator see on the admin port, counted against what a client did."""

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import Sidecar, call


def samples(sidecar: Sidecar) -> dict[str, float]:
    """Each sample's sum over all its label sets; the parser refuses an exposition that is not valid."""
    reply = call(sidecar.admin, "GET", "/metrics")
    assert reply.status == 200
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def test_counters_agree_with_the_client(make: Make, api: Api) -> None:
    sidecar = make("--upstream", api.url).start()
    key = sidecar.key("acme")
    before = samples(sidecar)
    for _ in range(7):
        assert sidecar.call("GET", "/bytes/100", key).status == 200
    for _ in range(3):
        assert sidecar.call("GET", "/bytes/100").status == 401
    after = samples(sidecar)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["sidecar_refusals_total"] == 3
    assert grown["sidecar_units_total"] == 7
    assert grown["sidecar_requests_total"] in (7, 10)
    assert after["sidecar_upstream_up"] == 1


def test_no_key_shows_in_the_scrape(front: Sidecar) -> None:
    key = front.key("scraped")
    assert front.call("GET", "/echo", key).status == 200
    assert key.encode() not in call(front.admin, "GET", "/metrics").body


def test_probes(front: Sidecar) -> None:
    assert call(front.admin, "GET", "/livez").status == 200
    assert call(front.admin, "GET", "/readyz").status == 200


def test_the_admin_api_wants_its_token(front: Sidecar) -> None:
    """Whatever is not a probe or the scrape: 401, or 404 where there is nothing; never an answer."""
    assert {call(front.admin, "GET", path).status for path in ("/tenants", "/v1/tenants", "/keys")} <= {401, 403, 404}


def test_the_admin_port_knows_its_own_names(front: Sidecar) -> None:
    """A page in a browser that points its own name at 127.0.0.1 gets nothing (DNS rebinding)."""
    assert call(front.admin, "GET", "/metrics", headers={"Host": "evil.example"}).status in (400, 403, 421)
