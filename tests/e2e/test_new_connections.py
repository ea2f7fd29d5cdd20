"""Clients that connect anew for every call, while the process stops or is taken over: whoever got in is answered."""

import socket
import threading
import urllib.parse
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, receive_until
from tests.e2e.test_takeover import sidecar
from tests.e2e.test_workers import until


class Newcomers:
    """Threads that connect, call once and close, again and again until they are told to stop, or refused."""

    def __init__(self, base: str, key: str, threads: int) -> None:
        address = urllib.parse.urlsplit(base)
        self._address = (address.hostname or "", address.port or 0)
        self._request = f"GET /bytes/100 HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        seen = ""
        while not self._stop.is_set() and seen != "refused":
            seen = self._once()
            with self._lock:
                self.seen[seen] += 1

    def _once(self) -> str:
        try:
            client = socket.create_connection(self._address, timeout=PATIENCE_S)
        except ConnectionRefusedError:
            return "refused"
        with client:
            try:
                client.sendall(self._request)
                reply = receive_until(client, b"\r\n\r\n")
            except (OSError, AssertionError) as error:
                return repr(error)
        return reply.split()[1].decode()

    def end(self, *, stop: bool) -> None:
        if stop:
            self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_resets_nobody_who_got_in(make: Make, tmp_path: Path, api: Api, workers: int) -> None:
    """A listener that closes resets what waits in it; its clients took themselves for connected."""
    process = sidecar(make, tmp_path, api, workers).start()
    load = Newcomers(process.base, process.another_key("acme"), 16)
    until(lambda: load.seen["200"] >= 100)
    assert process.stop() == 0
    load.end(stop=False)
    assert load.seen.keys() == {"200", "refused"}
    assert load.seen["refused"] == 16
    assert process.usage("acme")["requests"] == load.seen["200"]


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1)])
def test_a_takeover_refuses_nobody(make: Make, tmp_path: Path, api: Api, before: int, after: int) -> None:
    first = sidecar(make, tmp_path, api, before).start()
    load = Newcomers(first.base, first.another_key("acme"), 8)
    until(lambda: load.seen["200"] >= 50)
    second = sidecar(make, tmp_path, api, after).start("--takeover")
    seen = load.seen["200"]
    until(lambda: load.seen["200"] >= seen + 50)
    load.end(stop=True)
    assert first.wait() == 0
    assert load.seen.keys() == {"200"}
    until(lambda: second.usage("acme")["requests"] == load.seen["200"])
    assert second.stop() == 0
