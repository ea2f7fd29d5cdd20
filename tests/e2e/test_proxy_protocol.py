"""The PROXY protocol at the real process, in one process and in several: the address that is said is the caller's."""

import json
import socket
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.process import PATIENCE_S, Sidecar, write_config
from tests.gateway.test_proxy_protocol import block

Make = Callable[..., Sidecar]
POLICIES = (
    'routes: [{name: all, match: {path: "/{path...}"}, addresses: {deny: [203.0.113.0/24]}}]\n'
    "plans: {p: {}}\ntenants: {acme: {plan: p}}\n"
)


def ask(sidecar: Sidecar, key: str, preamble: bytes) -> tuple[int, bytes]:
    """The status and the body; 0 when the connection just ends."""
    address = urllib.parse.urlsplit(sidecar.base)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as client:
        head = f"GET /headers HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n"
        data = b""
        try:
            client.sendall(preamble + head.encode())
            while piece := client.recv(65536):
                data += piece
        except ConnectionError:
            return 0, b""
    start, _, body = data.partition(b"\r\n\r\n")
    return (int(start.split()[1]) if start else 0), body


@pytest.mark.parametrize("workers", [1, 2])
def test_every_process_reads_it(make: Make, tmp_path: Path, api: Api, workers: int) -> None:
    top = f"trusted_proxies: [127.0.0.0/8]\nproxy_protocol: true\nworkers: {workers}\n"
    sidecar = make(*write_config(tmp_path, api.url, POLICIES, top)).start()
    key = sidecar.another_key("acme")
    for _ in range(4):  # the kernel spreads connections over the workers
        status, body = ask(sidecar, key, block("198.51.100.7"))
        assert status == 200
        assert "198.51.100.7" in json.dumps(json.loads(body))
        assert ask(sidecar, key, block("203.0.113.7"))[0] == 403
        assert ask(sidecar, key, b"")[0] == 0
