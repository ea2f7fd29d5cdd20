"""SIGTERM with WebSockets open: client and API, both the ``websockets`` library, get 1001 and close in order."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, write_config
from tests.e2e.test_workers import POLICIES, until

Ended = list[tuple[int | None, int | None]]  # the codes that came and that went


def ends(connection: ClientConnection | ServerConnection, codes: Ended) -> None:
    try:
        while True:
            message = connection.recv()
            if isinstance(connection, ServerConnection):
                connection.send(message)
    except ConnectionClosed as closed:
        came, went = closed.rcvd, closed.sent
        codes.append((None if came is None else came.code, None if went is None else went.code))


class Echo:
    """An API that says back what it hears."""

    def __init__(self) -> None:
        self.codes: Ended = []
        self.server: Server = serve(lambda connection: ends(connection, self.codes), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_both_ends_close_in_order(make: Make, tmp_path: Path, echo: Echo, workers: int) -> None:
    words = write_config(tmp_path, echo.url, POLICIES, f"workers: {workers}\ndrain: 1s\n")
    sidecar = make(*words).start()
    key, codes = sidecar.another_key("acme"), Ended()
    address, fields = sidecar.base.replace("http:", "ws:") + "/live", {"X-API-Key": key}
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(connect(address, additional_headers=fields)) for _ in range(3)]
        for socket in sockets:
            socket.send("hello")
            assert socket.recv(PATIENCE_S) == "hello"
        readers = [threading.Thread(target=ends, args=(socket, codes)) for socket in sockets]
        for reader in readers:
            reader.start()
        assert sidecar.stop() == 0
        for reader in readers:
            reader.join(PATIENCE_S)
    assert codes == [(1001, 1001)] * 3
    until(lambda: len(echo.codes) == 3)
    assert echo.codes == [(1001, 1001)] * 3
    assert sidecar.usage("acme")["requests"] == 3
