"""Client certificates as an identity, at the listener of the real process."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.certify import Authority
from tests.e2e.api import Api
from tests.e2e.process import PATIENCE_S, Sidecar, write_config

Make = Callable[..., Sidecar]
POLICIES = """\
routes: [{name: all, match: {path: "/{path...}"}, upstream: api}]
plans: {p: {}}
tenants:
  acme: {plan: p, certificates: ["uri:spiffe://prod/acme"]}
  beta: {plan: p, certificates: ["cn:beta", "dns:beta.example"]}
"""
TLS = "tls: {certificate: server.pem, key: server.key, client_ca: ca.pem, client_cert_field: true%s}\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.sign("server", ips=("127.0.0.1",))
    return made


@pytest.fixture
def sidecar(make: Make, tmp_path: Path, api: Api, authority: Authority) -> Sidecar:
    return make(*write_config(tmp_path, api.url, POLICIES, TLS % "")).start()


def client(
    sidecar: Sidecar, authority: Authority, shown: tuple[Path, Path] | None = None, http2: bool = False
) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(authority.file))
    if shown is not None:
        context.load_cert_chain(*shown)
    return httpx.Client(verify=context, base_url=sidecar.base, timeout=PATIENCE_S, http2=http2)


def sent(reply: httpx.Response) -> dict[str, list[str]]:
    """The header lines that reached the API, by lower-case name."""
    found: dict[str, list[str]] = {}
    for name, value in reply.json()["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.parametrize("http2", [False, True])
def test_a_certificate_says_who_calls(sidecar: Sidecar, authority: Authority, http2: bool) -> None:
    shown = authority.sign("anybody", uris=("spiffe://prod/acme",), dns=("other.example",))
    with client(sidecar, authority, shown, http2) as calls:
        reply = calls.get("/echo", headers={"Client-Cert": ":Zm9yZ2Vk:", "X-Tenant-ID": "beta"})
        assert (reply.status_code, reply.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
        got = sent(reply)
    assert (got["x-tenant-id"], got["x-key-id"]) == (["acme"], ["cert:uri:spiffe://prod/acme"])
    der = ssl.PEM_cert_to_DER_cert(shown[0].read_text())
    assert got["client-cert"] == [f":{b64encode(der).decode()}:"]


def test_who_shows_none_needs_a_key(sidecar: Sidecar, authority: Authority) -> None:
    key = sidecar.another_key("beta")
    with client(sidecar, authority) as calls:
        assert calls.get("/echo").json()["code"] == "key_missing"
        reply = calls.get("/echo", headers={"X-API-Key": key, "Client-Cert": ":Zm9yZ2Vk:"})
        assert sent(reply)["x-tenant-id"] == ["beta"]
        assert "client-cert" not in sent(reply)


def test_a_key_says_more_than_the_certificate(sidecar: Sidecar, authority: Authority) -> None:
    shown = authority.sign("anybody", uris=("spiffe://prod/acme",))
    key = sidecar.another_key("beta")
    with client(sidecar, authority, shown) as calls:
        assert sent(calls.get("/echo", headers={"X-API-Key": key}))["x-tenant-id"] == ["beta"]
        assert sent(calls.get("/echo"))["x-tenant-id"] == ["acme"]
        assert calls.get("/echo", headers={"X-API-Key": key[:-1]}).status_code == 401


def test_the_certificate_of_one_connection_is_not_another_ones(sidecar: Sidecar, authority: Authority) -> None:
    """The header blocks are the same, byte for byte, and so remembered."""
    acme = authority.sign("one", uris=("spiffe://prod/acme",))
    beta = authority.sign("beta")
    for shown, tenant in ((acme, "acme"), (beta, "beta"), (acme, "acme")):
        with client(sidecar, authority, shown) as calls:
            assert [sent(calls.get("/echo"))["x-tenant-id"] for _ in range(2)] == [[tenant]] * 2
    with client(sidecar, authority) as calls:
        assert calls.get("/echo").status_code == 401


def test_names_are_matched_as_a_whole(sidecar: Sidecar, authority: Authority) -> None:
    for name, uris, dns in (("Beta", (), ()), ("x", ("spiffe://prod/acme/more",), ()), ("x", (), ("a.beta.example",))):
        with client(sidecar, authority, authority.sign(name, uris=uris, dns=dns)) as calls:
            reply = calls.get("/echo")
            assert (reply.status_code, reply.json()["code"]) == (401, "certificate_unknown")


def test_strangers_and_expired_certificates_do_not_get_in(
    sidecar: Sidecar, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    stranger = Authority(tmp_path / "elsewhere").sign("beta")
    for shown in (stranger, authority.sign("beta", file="old", days=-1)):
        with client(sidecar, authority, shown) as calls, pytest.raises(httpx.TransportError):
            calls.get("/echo")


def test_a_certificate_may_be_required(make: Make, tmp_path: Path, api: Api, authority: Authority) -> None:
    sidecar = make(*write_config(tmp_path, api.url, POLICIES, TLS % ", client_auth: required")).start()
    with client(sidecar, authority) as calls, pytest.raises(httpx.TransportError):
        calls.get("/echo")
    with client(sidecar, authority, authority.sign("beta")) as calls:
        assert calls.get("/echo").status_code == 200


def test_a_reload_takes_a_certificate_from_its_tenant(
    sidecar: Sidecar, authority: Authority, tmp_path: Path, api: Api
) -> None:
    with client(sidecar, authority, authority.sign("beta")) as calls:
        assert calls.get("/echo").status_code == 200
        write_config(tmp_path, api.url, POLICIES.replace('"cn:beta", ', ""), TLS % "")
        sidecar.cli("reload")
        assert calls.get("/echo").json()["code"] == "certificate_unknown"


async def test_a_reload_that_takes_it_ends_its_websocket(make: Make, tmp_path: Path, authority: Authority) -> None:
    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        target = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        sidecar = await asyncio.to_thread(make(*write_config(tmp_path, target, POLICIES, TLS % "")).start)
        context = ssl.create_default_context(cafile=str(authority.file))
        context.load_cert_chain(*authority.sign("beta"))
        url = sidecar.base.replace("https", "wss")
        async with connect(url, ssl=context, proxy=None) as socket, asyncio.timeout(PATIENCE_S):
            await socket.send("here")
            assert await socket.recv() == "here"
            write_config(tmp_path, target, POLICIES.replace('"cn:beta", ', ""), TLS % "")
            await asyncio.to_thread(sidecar.cli, "reload")
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (1008, "certificate_unknown")
