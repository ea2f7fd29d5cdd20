"""After each exchange: exactly one usage record, with what really happened; a refused request leaves none."""

from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Rig


async def test_a_plain_call(rig: Rig, upstream: CruelUpstream) -> None:
    reply = await rig.call("POST /a?b=c HTTP/1.1", "Content-Length: 5", body=b"hello")
    assert (reply.status, reply.body) == (200, b"ok")
    entry = await rig.only_entry()
    assert entry.event_id == reply.one("x-request-id").replace(b"-", b"").decode()
    assert upstream.requests[0].one("x-request-id") == reply.one("x-request-id")
    assert (entry.tenant, entry.key_id, entry.route, entry.method) == ("acme", rig.key_id, "all", "POST")
    assert (entry.status, entry.outcome, entry.units) == (200, "ok", 3)
    assert (entry.bytes_in, entry.bytes_out, entry.meters) == (5, 2, {"requests": 1})
