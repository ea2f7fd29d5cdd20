"""The whole sidecar in the test's own loop: real sockets, journal and database, a clock that is moved by hand."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from sidecar.app import App
from sidecar.config import Configuration, Overrides
from sidecar.core.clock import ManualClock
from sidecar.gateway import Lane
from sidecar.identity import new_key
from sidecar.ledger import Journal
from sidecar.ledger.entry import newest
from tests.gateway.cruel import PATIENCE_S, CruelUpstream, Message, Wire, until

TOKEN_SECRET = "0123456789abcdef" * 4
CONFIG = """\
listen: 127.0.0.1:0
admin: {{listen: "127.0.0.1:0"}}
data: data
drain: 0s
journal: {{{journal}}}
trusted_proxies: [{trusted}]
{top}
bounds: {{{bounds}}}
identity: {{api_key: {{{api_key}}}{jwt}}}
upstreams:
  api:
    targets: [{targets}]
    {upstream}
meters:
  requests: {{count: requests}}
{meters}
routes:
{routes}
plans:
  basic:
    quotas: [{{name: month, meter: requests, limit: 1_000_000, period: month, overage: allow}}{quotas}]
    {plan}
tenants:
  acme: {{plan: basic}}
costs: {{{costs}}}
{more}
"""
ROUTES = """\
  - {name: all, match: {path: "/{path...}"}, upstream: api, units: 3}
  - {name: open, match: {path: "/open/{path...}"}, upstream: api, auth: none, plan: basic}
  - {name: drain, match: {path: "/drain"}, upstream: api, units: 3, on_disconnect: drain}
  - {name: partial, match: {path: "/partial"}, upstream: api, units: 3, on_disconnect: partial}
  - {name: cancel, match: {path: "/cancel"}, upstream: api, units: 3, on_disconnect: cancel}
  - {name: small, match: {path: "/small"}, upstream: api, max_body: 10B}
  - {name: told, match: {path: "/told"}, upstream: api, announce: {latency: true, cost: true}}
  - {name: written, match: {methods: [PUT, POST], path: "/written"}, upstream: api}"""


@dataclass
class Options:
    """What a test writes into the configuration, as YAML."""

    bounds: str = ""
    api_key: str = ""
    jwt: str = ""
    targets: str = '"http://127.0.0.1:{port}"'
    upstream: str = "max_connections: 8"
    routes: str = ROUTES
    plan: str = ""
    trusted: str = ""
    top: str = ""
    journal: str = "segment: 256KiB, max: 4MiB"
    meters: str = ""
    quotas: str = ""
    costs: str = ""
    more: str = ""


def quotas_over(*meters: str) -> str:
    """A quota that blocks nothing over each meter, since a meter that nothing sees is a fault."""
    return "".join(f", {{name: {m}, meter: {m}, limit: 1_000_000_000, period: month, overage: allow}}" for m in meters)


@dataclass
class Entry:
    """One row of the ledger."""

    event_id: str
    tenant: str
    key_id: str
    route: str
    method: str
    status: int
    outcome: str
    units: int
    bytes_in: int
    bytes_out: int
    cost: int
    meters: dict[str, int] = field(default_factory=dict)


class Client(Wire):
    """A raw client connection that knows its key."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        super().__init__(reader, writer)
        self.key = key.encode()

    def ask(self, line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"", host: str = "a.example") -> None:
        """Sends a request with the key."""
        self.send(self.request(line, *fields, body=body, host=host))

    def request(self, line: str, *fields: str, body: bytes = b"", host: str = "a.example") -> bytes:
        head = "\r\n".join([line, f"Host: {host}", f"X-API-Key: {self.key.decode()}", *fields])
        return head.encode("latin-1") + b"\r\n\r\n" + body

    async def closes(self) -> None:
        """Nothing more comes, and the connection ends."""
        assert await self.rest() == b""


class Rig:
    """A running sidecar between a cruel upstream and raw clients."""

    def __init__(self, app: App, upstream: CruelUpstream, clock: ManualClock, key: str, key_id: str) -> None:
        self.app = app
        self.upstream = upstream
        self.clock = clock
        self.key = key
        self.key_id = key_id
        self._clients: list[Client] = []

    @property
    def lane(self) -> Lane:
        return self.app._lane

    @property
    def journal(self) -> Journal:
        return self.app._journal

    @property
    def pool(self) -> Any:
        return self.app._pools.current["api"]

    async def client(self) -> Client:
        host, _, port = self.app.listening[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        client = Client(reader, writer, self.key)
        self._clients.append(client)
        return client

    async def call(self, line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Message:
        """One request on a connection of its own; its reply."""
        client = await self.client()
        client.ask(line, *fields, body=body)
        reply = await client.message(bodiless=line.startswith("HEAD"))
        client.close()
        return reply

    async def pool_is_idle(self) -> None:
        """From here the next call opens a connection, which runs the next script."""
        for target in self.pool.targets:
            target.close_idle()
        await until(lambda: not any(target.connections for target in self.pool.targets))

    def advance(self, seconds: float) -> None:
        """Time passes, and what is overdue ends."""
        self.clock.advance(seconds)
        self.lane.sweep()
        self.app._sweep_pools(self.clock.monotonic_ns())

    def open_records(self) -> list[bytes]:
        """The newest record of each call that has not ended."""
        records, call = list[bytes](), self.journal._calls._oldest
        while call is not None:
            records.append(newest(call))
            call = call.newer
        return records

    async def ledger(self) -> list[Entry]:
        """Every entry so far, oldest first; by then no call may be open in the journal."""
        await until(lambda: self.journal.readings().open_calls == 0)
        async with asyncio.timeout(PATIENCE_S):
            await self.app._shipper.flush()
        path = Path(self.app.snapshot.settings.data) / "sidecar.db"
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        rows = connection.execute(
            "SELECT lower(hex(event_id)), tenant, key_id, route, method, status, outcome, units, bytes_in, bytes_out,"
            " cost, meters FROM entries ORDER BY seq"
        ).fetchall()
        connection.close()
        return [Entry(*row[:-1], json.loads(row[-1])) for row in rows]

    async def only_entry(self) -> Entry:
        """The one entry there is."""
        entries = await self.ledger()
        assert len(entries) == 1, entries
        return entries[0]

    async def stop(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        await self.app.stop()


async def start_rig(folder: Path, upstream: CruelUpstream, options: Options) -> Rig:
    """Writes the configuration into ``folder`` and starts the sidecar that it describes."""
    file = folder / "sidecar.yaml"
    file.write_text(CONFIG.format(**vars(options)).replace("{port}", str(upstream.port)))
    clock = ManualClock()
    configuration = Configuration(file, Overrides(), {"TOKEN_SECRET": TOKEN_SECRET})
    app = App(configuration.load(), clock, configuration)
    await app.start()
    row, minted = new_key(
        app._peppers, "sc", tenant="acme", name="t", sandbox=False, scopes=None, expires_ns=None, now_ns=clock.wall_ns()
    )
    await app._store.add_key(row, actor="test")
    return Rig(app, upstream, clock, minted.text, row.id)
