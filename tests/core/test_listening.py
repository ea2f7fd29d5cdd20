"""What a reload changes of a listener in use: its certificate, who is asked for one, and whose are believed."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.core.listening import Tls
from tests.certify import Authority

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Door:
    """A listener on ``context``, and clients of it."""

    def __init__(self, folder: Path) -> None:
        self.old, self.new = Authority(folder, "old"), Authority(folder, "new")
        self.certificate, self.key = map(str, self.old.sign("server", dns=("sidecar.test",)))
        self.shown = {by: by.sign("client", file=f"{by.file.stem}-client") for by in (self.old, self.new)}
        self.context = self.tls(self.old).context()
        self.port = 0

    def tls(self, authority: Authority | None, **more: str) -> Tls:
        ca = None if authority is None else str(authority.file)
        return Tls(self.certificate, self.key, client_ca=ca, **more)

    async def knocks(self, shows: Authority | None, version: ssl.TLSVersion, name: str = "sidecar.test") -> bytes:
        """What a client gets to read; nothing when it is not let in."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = version
        if shows is not None:
            context.load_cert_chain(*self.shown[shows])
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name)
            data = await reader.read()
            writer.close()
        except OSError:
            return b""
        return data


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    made = Door(tmp_path)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"shown" if writer.get_extra_info("peercert") else b"nothing")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=made.context)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["sidecar.test", ""])
async def test_an_authority_that_left_is_not_believed_any_more(door: Door, version: ssl.TLSVersion, name: str) -> None:
    """Certificates can only be added to a context; with or without SNI the handshake changes to a fresh one."""
    assert await door.knocks(door.old, version, name) == b"shown"
    assert await door.knocks(door.new, version, name) == b""
    door.tls(door.new).renewal(door.context)()
    assert await door.knocks(door.old, version, name) == b""
    assert await door.knocks(door.new, version, name) == b"shown"


@pytest.mark.parametrize("version", VERSIONS)
async def test_who_is_asked_changes_with_a_reload(door: Door, version: ssl.TLSVersion) -> None:
    assert await door.knocks(None, version) == b"nothing"
    door.tls(door.old, client_auth="required").renewal(door.context)()
    assert await door.knocks(None, version) == b""
    assert await door.knocks(door.old, version) == b"shown"
    door.tls(None).renewal(door.context)()
    assert await door.knocks(door.new, version) == b"nothing"


async def test_the_oldest_version_changes_with_a_reload(door: Door) -> None:
    door.tls(None, oldest="1.3").renewal(door.context)()
    assert await door.knocks(None, ssl.TLSVersion.TLSv1_2) == b""
    assert await door.knocks(None, ssl.TLSVersion.TLSv1_3) == b"nothing"


async def test_a_session_of_tls_1_3_does_not_bring_a_certificate_back(door: Door) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(*door.shown[door.old])

    def once(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
        plain = socket.create_connection(("127.0.0.1", door.port), timeout=10)
        with context.wrap_socket(plain, server_hostname="sidecar.test", session=session) as client:
            try:
                return client.recv(100), client.session
            except OSError:
                return b"", None

    data, session = await asyncio.to_thread(once, None)
    assert data == b"shown"
    door.tls(door.new).renewal(door.context)()
    data, _ = await asyncio.to_thread(once, session)
    assert data == b""


def test_what_is_refused_changes_nothing(door: Door, tmp_path: Path) -> None:
    (tmp_path / "nothing.pem").write_text("nothing of the kind\n")
    before = door.context.sni_callback
    with pytest.raises(ValueError, match="holds no certificates of authorities"):
        Tls(door.certificate, door.key, client_ca=str(tmp_path / "nothing.pem")).renewal(door.context)()
    assert door.context.sni_callback is before
