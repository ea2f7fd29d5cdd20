"""The lane without sockets: what one request costs in Python alone, in microseconds, best of several rounds.

Run ``python -m benchmarks.lane`` (``--profile`` for where it goes). Everything is real but the two transports.
"""

import asyncio
import cProfile
import os
import pstats
import sys
import tempfile
import time
from typing import Any

from sidecar.app import App, open_offline
from sidecar.config import Overrides, load
from sidecar.gateway import ClientConnection
from sidecar.upstream import UpstreamConnection

_REPLY = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 400\r\nConnection: keep-alive\r\n\r\n" + b"x" * 400
)


class Wire(asyncio.Transport):
    """A transport that forgets what is written."""

    written = 0

    def write(self, data: Any) -> None:
        self.written += len(data)
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(data.decode())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_closing(self) -> bool:
        return False

    def abort(self) -> None: ...
    def close(self) -> None: ...


async def measure(profile: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        snapshot = load(
            None,
            Overrides(upstream="http://127.0.0.1:9", listen="127.0.0.1:0", admin="127.0.0.1:0", data=folder),
            os.environ,
        )
        async with open_offline(snapshot) as operations:
            await operations.tenants_add("acme", "scale", actor="bench")
            key = (await operations.keys_create("acme", name="bench", actor="bench"))["key"]
        app = App(snapshot)
        await app.start()
        request = f"GET /v1/search?q=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-API-Key: {key}\r\n\r\n".encode()
        target = app._pools["api"].targets[0]
        upstream = UpstreamConnection(
            app._clock, first_byte_ns=10**10, idle_ns=10**10, max_head_bytes=10**5, max_headers=100,
            memory=target._memory, on_idle=target._idle, on_lost=target._lost,
        )  # fmt: skip
        upstream.connection_made(Wire())
        target.connections.add(upstream)
        target._idle(upstream)
        client = ClientConnection(app._lane)
        client.connection_made(Wire())
        client.data_received(request)
        async with asyncio.timeout(5):
            while upstream._sink is None:
                await asyncio.sleep(0.05)
        upstream.data_received(_REPLY)

        def rounds(count: int) -> float:
            start = time.process_time()
            for _ in range(count):
                client.data_received(request)
                upstream.data_received(_REPLY)
            return (time.process_time() - start) / count * 1e6

        best = []
        for _ in range(12):
            best.append(rounds(1000))
            await asyncio.sleep(0.3)
        version, others = sys.version.split()[0], sorted(round(one, 1) for one in best)[1:5]
        print(f"{min(best):.1f} us/request, Python {version} (the next best rounds: {others})")
        if profile:
            profiler = cProfile.Profile()
            profiler.runcall(rounds, 3000)
            pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        await app.stop()


if __name__ == "__main__":
    asyncio.run(measure("--profile" in sys.argv))
