"""`sidecar usage` agrees with what a client counted, whatever happened to the process in between."""

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, Sidecar, connect, write_config

POLICIES = """
meters:
  requests: {count: requests}
  weight: {count: units}
plans:
  any:
    quotas:
      - {name: requests, meter: requests, limit: 1_000_000, period: month, overage: allow}
      - {name: weight, meter: weight, limit: 1_000_000, period: month, overage: allow}
costs: {per_call: "0.001 USD"}
routes:
  - {name: heavy, match: {path: /heavy}, upstream: api, units: 7, announce: {cost: true, latency: true}}
  - {name: rest, match: {path: "/{rest...}"}, upstream: api}
"""


def test_usage_agrees_to_the_unit(make: Make, api: Api) -> None:
    sidecar = make()
    sidecar.words = write_config(sidecar.folder, api.url, POLICIES)
    sidecar.start()
    key = sidecar.key("acme", plan="any")
    heavy = [sidecar.call("GET", "/heavy", key) for _ in range(3)]
    assert {reply.status for reply in heavy} == {200}
    assert all(reply.headers["X-Compute-Cost"] and reply.headers["X-Request-Latency"] for reply in heavy)
    assert [sidecar.call("GET", "/status/204", key).status for _ in range(2)] == [204, 204]
    assert sidecar.call("GET", "/status/404", key).status == 404
    assert sidecar.call("GET", "/echo").status == 401
    report = sidecar.usage("acme", 6)
    assert report["tenant"] == "acme"
    assert (report["requests"], report["units"]) == (6, 3 * 7 + 3)
    assert report["cost"]
    assert sidecar.stop() == 0
    after = sidecar.usage("acme")
    assert {name: after[name] for name in ("requests", "units", "cost")} == {
        name: report[name] for name in ("requests", "units", "cost")
    }


def test_test_keys_are_apart(make: Make, api: Api) -> None:
    sidecar = make("--upstream", api.url).start()
    key = sidecar.key("acme", "--test", plan="pro")
    assert sidecar.call("GET", "/echo", key).status == 200
    live = sidecar.another_key("acme")
    assert sidecar.call("GET", "/echo", live).status == 200
    assert sidecar.usage("acme", 1)["requests"] == 1


def test_a_stop_lets_calls_in_flight_end(make: Make, api: Api) -> None:
    """SIGTERM: the call that is in flight is answered whole, the process ends with 0, and the call is in usage."""
    sidecar = make("--upstream", api.url).start()
    key = sidecar.key("acme")
    api.hold()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(sidecar.call, "GET", "/hold", key)
        assert api.arrived.wait(PATIENCE_S)
        sidecar.terminate()
        api.release()
        assert call.result(PATIENCE_S).body == b"held"
    assert sidecar.wait() == 0
    assert sidecar.usage("acme")["requests"] == 1


def load(sidecar: Sidecar, key: str, enough: threading.Event, at_least: int) -> tuple[int, int]:
    """Calls until the connection breaks: (answered whole, sent). Sets ``enough`` after ``at_least`` of them."""
    sent = answered = 0
    connection = connect(sidecar.base)
    try:
        while True:
            sent += 1
            connection.request("GET", "/bytes/100", headers={"X-API-Key": key})
            reply = connection.getresponse()
            body = reply.read()
            assert (reply.status, len(body)) == (200, 100)
            answered += 1
            if answered == at_least:
                enough.set()
    except (OSError, http.client.HTTPException):
        return answered, sent
    finally:
        connection.close()


def kill_under_load(sidecar: Sidecar, key: str, clients: int, at_least: int) -> tuple[int, int]:
    """kill -9 while ``clients`` call as fast as they can: (answered, sent) of all of them."""
    events = [threading.Event() for _ in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(load, sidecar, key, event, at_least) for event in events]
        assert all(event.wait(PATIENCE_S) for event in events)
        sidecar.kill()
        counts = [one.result(PATIENCE_S) for one in running]
    return sum(answered for answered, _ in counts), sum(sent for _, sent in counts)


def test_kill_9_loses_no_completed_call(make: Make, api: Api) -> None:
    """Each reply that a client holds is in usage, once; what was in flight may be there too, one per client."""
    sidecar = make("--upstream", api.url).start()
    key = sidecar.key("acme")
    answered, sent = kill_under_load(sidecar, key, clients=4, at_least=100)
    offline = sidecar.usage("acme")["requests"]
    assert answered <= offline <= sent
    sidecar.start()
    assert answered <= sidecar.usage("acme")["requests"] <= sent
    assert sidecar.call("GET", "/echo", key).status == 200


@pytest.mark.chaos
def test_kill_9_again_and_again(make: Make, api: Api) -> None:
    """Twenty kills on one book: the sums of all rounds stay between what was answered and what was sent."""
    sidecar = make("--upstream", api.url)
    key = sidecar.key("acme")
    answered = sent = 0
    for _ in range(20):
        sidecar.start()
        more_answered, more_sent = kill_under_load(sidecar, key, clients=8, at_least=200)
        answered, sent = answered + more_answered, sent + more_sent
        assert answered <= sidecar.usage("acme")["requests"] <= sent
