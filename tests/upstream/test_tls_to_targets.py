"""TLS to a target that speaks it in earnest: whom we believe, what we show, which name we ask for."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sidecar.app.pools import Pools
from sidecar.core.clock import ManualClock
from sidecar.core.errors import UpstreamError
from sidecar.core.policy import Snapshot
from sidecar.core.upstreams import Health, Target, Upstream, UpstreamTls
from sidecar.upstream import UpstreamPool
from sidecar.upstream.health import check, check_session
from tests.certify import Authority
from tests.gateway.cruel import until


@dataclass
class Seen:
    """What the target saw of each connection: the name that was asked for and the CN that was shown."""

    names: list[str | None] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    port: int = 0


def server_context(authority: Authority, *, ask: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    certificate, key = authority.sign("api.internal", dns=("api.internal",), file="server")
    context.load_cert_chain(certificate, key)
    if ask:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def serve(context: ssl.SSLContext) -> tuple[asyncio.Server, Seen]:
    seen = Seen()

    def asked(sock: object, name: str | None, of: ssl.SSLContext) -> None:
        seen.names.append(name)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("peercert") or {}
        seen.shown.append(dict(pair for part in shown.get("subject", ()) for pair in part).get("commonName", ""))
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    context.sni_callback = asked
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    seen.port = server.sockets[0].getsockname()[1]
    return server, seen


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def seen(authority: Authority) -> AsyncIterator[Seen]:
    server, seen = await serve(server_context(authority, ask=False))
    yield seen
    server.close()


@pytest.fixture
async def asking(authority: Authority) -> AsyncIterator[Seen]:
    server, seen = await serve(server_context(authority, ask=True))
    yield seen
    server.close()


def upstream(seen: Seen, tls: UpstreamTls | None) -> Upstream:
    return Upstream("api", (Target("https", "127.0.0.1", seen.port),), tls=tls, health=Health("/", 10**9, 10**9, 1))


async def reach(seen: Seen, tls: UpstreamTls | None) -> None:
    pool = UpstreamPool(upstream(seen, tls), ManualClock())
    try:
        await pool.acquire()
    finally:
        pool.abort()
        await until(lambda: not any(target.connections for target in pool.targets))


async def test_an_authority_of_its_own_and_a_name_of_its_own(seen: Seen, authority: Authority) -> None:
    await reach(seen, UpstreamTls(ca=str(authority.file), server_name="api.internal").read())
    assert seen.names == ["api.internal"]


@pytest.mark.parametrize("case", ["nobody's authority", "another authority", "another name"])
async def test_whoever_cannot_show_the_right_certificate_gets_no_call(
    seen: Seen, authority: Authority, tmp_path: Path, case: str
) -> None:
    """Verification is on by default, for the chain and for the name."""
    other = Authority(tmp_path, "other")
    tls = {
        "nobody's authority": UpstreamTls(server_name="api.internal"),
        "another authority": UpstreamTls(ca=str(other.file), server_name="api.internal"),
        "another name": UpstreamTls(ca=str(authority.file), server_name="other.internal"),
    }[case]
    with pytest.raises(UpstreamError) as caught:
        await reach(seen, tls.read())
    assert caught.value.kind == "connect"
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)


async def test_verification_can_be_turned_off(seen: Seen) -> None:
    await reach(seen, UpstreamTls(verify=False).read())


async def test_the_client_certificate_is_shown_when_the_target_asks(asking: Seen, authority: Authority) -> None:
    certificate, key = authority.sign("the sidecar", file="own")
    tls = UpstreamTls(str(authority.file), str(certificate), str(key), "api.internal")
    pool = UpstreamPool(upstream(asking, tls.read()), ManualClock())
    _, connection = await pool.acquire()
    await until(lambda: asking.shown == ["the sidecar"])
    connection.close()
    await until(lambda: not pool.targets[0].connections)


async def test_checks_of_health_speak_the_same_tls(asking: Seen, authority: Authority) -> None:
    certificate, key = authority.sign("the sidecar", file="own")
    whole = UpstreamTls(str(authority.file), str(certificate), str(key), "api.internal").read()
    for tls, healthy in ((whole, True), (replace(whole, certificate=None, key=None), False), (None, False)):
        target = UpstreamPool(upstream(asking, tls), ManualClock()).targets[0]
        async with check_session(target) as session:
            await check(session, target, "/", 10.0)
        assert target.healthy == healthy
    assert asking.names[0] == "api.internal"


async def test_old_versions_are_refused(seen: Seen, authority: Authority) -> None:
    tls = UpstreamTls(ca=str(authority.file), server_name="api.internal", oldest="1.3").read()
    assert tls.context().minimum_version == ssl.TLSVersion.TLSv1_3
    await reach(seen, tls)


async def test_renewed_files_are_taken_by_a_reload_and_the_same_ones_keep_the_pool(
    seen: Seen, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.sign("first", file="own")
    tls = UpstreamTls(str(authority.file), str(certificate), str(key), "api.internal")
    pools = Pools(ManualClock())
    first = pools.planned(Snapshot(upstreams={"api": upstream(seen, tls.read())}))
    pools.use(first)
    assert pools.planned(Snapshot(upstreams={"api": upstream(seen, tls.read())})) == first
    authority.sign("second", file="own")
    assert pools.planned(Snapshot(upstreams={"api": upstream(seen, tls.read())}))["api"] is not first["api"]
    await pools.close()


def test_files_that_are_none_are_told(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("own")
    _, other = authority.sign("other")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing of the kind\n")
    for tls, words in (
        (UpstreamTls(ca=str(nothing)), "holds no certificates in PEM"),
        (UpstreamTls(ca=str(tmp_path / "missing.pem")), "cannot be read: No such file"),
        (UpstreamTls(certificate=str(certificate), key=str(other)), "is not that of the certificate"),
    ):
        with pytest.raises(ValueError, match=words):
            tls.read()
    assert UpstreamTls(certificate=str(certificate), key=str(key)).read().digest
