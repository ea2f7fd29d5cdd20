"""TLS on the listener of the real process, with certificates made here, and their renewal while it serves."""

import datetime
import hashlib
import http.client
import socket
import ssl
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.api import Api
from tests.e2e.process import PATIENCE_S, Sidecar, command, write_config

Make = Callable[..., Sidecar]
POLICIES = (
    'routes: [{name: all, match: {path: "/{path...}"}, upstream: api}]\nplans: {p: {}}\ntenants: {acme: {plan: p}}\n'
)
TLS = "tls: {certificate: cert.pem, key: key.pem}\n"


def certify(folder: Path, name: str) -> None:
    """A new key and a certificate of its own for 127.0.0.1, named ``name``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("sidecar.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))


def dial(sidecar: Sidecar, **more: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    for name, value in more.items():
        setattr(context, name, value)
    address = urllib.parse.urlsplit(sidecar.base)
    plain = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)
    return context.wrap_socket(plain, server_hostname="sidecar.test")


def named(client: ssl.SSLSocket) -> str:
    certificate = x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def get(client: ssl.SSLSocket, key: str) -> http.client.HTTPResponse:
    client.sendall(f"GET /headers HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode())
    reply = http.client.HTTPResponse(client)
    reply.begin()
    return reply


@pytest.fixture
def served(make: Make, tmp_path: Path, api: Api) -> tuple[Sidecar, str]:
    certify(tmp_path, "first")
    sidecar = make(*write_config(tmp_path, api.url, POLICIES, TLS)).start()
    return sidecar, sidecar.another_key("acme")


def test_a_renewed_certificate_is_taken_and_nothing_is_closed(served: tuple[Sidecar, str], tmp_path: Path) -> None:
    sidecar, key = served
    assert sidecar.base.startswith("https://")
    with dial(sidecar) as client:
        assert (named(client), client.selected_alpn_protocol()) == ("first", "http/1.1")
        reply = get(client, key)
        assert reply.status == 200
        reply.read()
        certify(tmp_path, "second")
        sidecar.cli("reload")
        with dial(sidecar) as another:
            assert named(another) == "second"
            assert get(another, key).status == 200
        assert get(client, key).status == 200


@pytest.mark.parametrize(("offered", "spoken"), [("", "HTTP/2"), (", http2: false", "HTTP/1.1")])
def test_a_client_that_prefers_http_2_gets_it(make: Make, tmp_path: Path, api: Api, offered: str, spoken: str) -> None:
    certify(tmp_path, "first")
    sidecar = make(*write_config(tmp_path, api.url, POLICIES, TLS.replace("}", offered + "}"))).start()
    key = sidecar.another_key("acme")
    with httpx.Client(http2=True, verify=False, base_url=sidecar.base, timeout=PATIENCE_S) as client:
        assert client.get("/echo").status_code == 401
        body = b"x" * 1_000_000
        reply = client.post("/echo", content=body, headers={"X-API-Key": key})
        assert (reply.status_code, reply.http_version) == (200, spoken)
        assert reply.json()["sha256"] == hashlib.sha256(body).hexdigest()
        assert client.get("/bytes/3000000", headers={"X-API-Key": key}).content == b"x" * 3_000_000


def test_a_pair_that_does_not_match_leaves_the_old_one(served: tuple[Sidecar, str], tmp_path: Path) -> None:
    sidecar, key = served
    old_key = (tmp_path / "key.pem").read_bytes()
    certify(tmp_path, "second")
    (tmp_path / "key.pem").write_bytes(old_key)
    token = (sidecar.data / "admin.token").read_text().strip()
    admin = urllib.parse.urlsplit(sidecar.admin)
    connection = http.client.HTTPConnection(admin.hostname or "", admin.port, timeout=PATIENCE_S)
    connection.request("POST", "/api/v1/reload", headers={"Authorization": f"Bearer {token}"})
    reply = connection.getresponse()
    assert reply.status == 422
    assert b"is not that of the certificate" in reply.read()
    connection.close()
    with dial(sidecar) as client:
        assert named(client) == "first"
        assert get(client, key).status == 200


def test_tls_is_not_turned_off_by_a_reload(served: tuple[Sidecar, str], tmp_path: Path, api: Api) -> None:
    sidecar, _ = served
    write_config(tmp_path, api.url, POLICIES)
    assert "only a new process" in sidecar.cli("reload", code=1).stderr


def test_old_versions_and_plain_http_get_nowhere(make: Make, tmp_path: Path, api: Api) -> None:
    certify(tmp_path, "first")
    sidecar = make(*write_config(tmp_path, api.url, POLICIES, TLS.replace("}", ', oldest: "1.3"}'))).start()
    with pytest.raises(ssl.SSLError):
        dial(sidecar, maximum_version=ssl.TLSVersion.TLSv1_2)
    address = urllib.parse.urlsplit(sidecar.base)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            told = plain.recv(4096)
        except ConnectionResetError:
            told = b""
    assert b"HTTP/1.1 200" not in told
    with dial(sidecar) as client:
        assert client.version() == "TLSv1.3"


def test_a_file_that_is_not_there_is_told_with_its_path(tmp_path: Path, api: Api) -> None:
    told = command("check", *write_config(tmp_path, api.url, POLICIES, TLS), cwd=tmp_path, code=2).stdout
    assert f"{tmp_path}/cert.pem cannot be read: No such file or directory" in told


def test_what_is_no_certificate_is_told_before_the_start(tmp_path: Path, api: Api) -> None:
    (tmp_path / "cert.pem").write_text("nothing of the kind\n")
    (tmp_path / "key.pem").write_text("nor this\n")
    words = write_config(tmp_path, api.url, POLICIES, TLS)
    told = command("check", *words, cwd=tmp_path, code=2).stdout
    assert "are no certificate and key in PEM" in told
