"""The store of shared limits on Redis: one script, one round trip per call, never repeated.

A call whose answer did not come is not sent again: it may have been counted. Then its units are lost until the window
has passed, which is tighter and never looser.

A user of an ACL needs ``~sidecar:* -@all +evalsha +eval +mget +set +setrange +time +ping +hello +client
+select``, in a cluster ``+cluster|slots +cluster|shards +cluster|nodes +readonly +asking`` too.
"""

import asyncio
from collections.abc import Iterator
from hashlib import sha1
from importlib.resources import files
from struct import pack, unpack
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from sidecar.core.budgets import BudgetStanding
from sidecar.core.errors import StoreDown
from sidecar.core.leases import Answer, Ask, Standing
from sidecar.core.redis_address import RedisAddress

Client: TypeAlias = "Redis | RedisCluster"
_SCRIPT: Final = files("sidecar.storage.redis").joinpath("lease.lua").read_text()
_SHA: Final = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()  # what EVALSHA goes by
_CONNECTIONS: Final = 16  # per server: calls are few, one per tenant at a time
_CONNECT_S: Final = 1.0


class RedisLimitStore:
    """Counts in Redis. ``budget_s``: how long one call may take, waiting for a connection included."""

    def __init__(self, address: RedisAddress, *, budget_s: float = 0.05) -> None:
        self._address = address
        self._budget_s = budget_s
        self._watchers: list[Redis] = []  # the clients of the sentinels
        self._client = self._connect(address)

    async def lease(self, ask: Ask) -> Answer:
        """Decides one call, all or nothing. StoreDown when no answer came in time; the call may have been counted."""
        keys, numbers = list(_keys(ask)), list(_numbers(ask))
        given = pack(f"<{len(numbers)}d", *numbers)
        try:
            async with asyncio.timeout(self._budget_s):
                reply = await self._run(keys, given)
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            raise self._down(error) from None
        return _answer(reply, len(ask.counters))

    async def ready(self) -> None:
        """Connects, and finds masters again that have moved. StoreDown; for the one who asks whether it is back."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                await self._client.ping()
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            raise self._down(error) from None

    async def close(self) -> None:
        """Closes every connection."""
        for client in (self._client, *self._watchers):
            await client.aclose()

    async def _run(self, keys: list[str], given: bytes) -> bytes:
        # The stubs say that a command may or may not be awaitable; these clients' are.
        client: Any = self._client
        try:
            reply: bytes = await client.evalsha(_SHA, len(keys), *keys, given)
        except NoScriptError:  # it was not counted: the server is new, or its scripts were flushed
            reply = await client.eval(_SCRIPT, len(keys), *keys, given)
        return reply

    def _connect(self, address: RedisAddress) -> Client:
        # A call is made once (see above), so the client's own retries are off.
        common: dict[str, Any] = {
            **address.login(),
            "retry": Retry(NoBackoff(), 0),
            "max_connections": _CONNECTIONS,
            "socket_connect_timeout": _CONNECT_S,
        }
        if address.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in address.hosts]
            return RedisCluster(startup_nodes=nodes, **common)
        if address.kind == "sentinel":
            sentinels = {
                "socket_connect_timeout": _CONNECT_S,
                "socket_timeout": _CONNECT_S,
                **address.encryption(),
            }
            sentinel: Any = Sentinel  # without annotations
            watchers = sentinel(list(address.hosts), sentinel_kwargs=sentinels)
            self._watchers = watchers.sentinels
            master: Redis = watchers.master_for(address.service, db=address.database, **common)
            return master
        host, port = address.hosts[0]
        return Redis(host=host, port=port, db=address.database, **common)

    def _down(self, error: Exception) -> StoreDown:
        what = f"no answer within {round(self._budget_s * 1000)} ms" if isinstance(error, TimeoutError) else str(error)
        password = self._address.password
        if password:
            what = what.replace(password, "***")
        return StoreDown(f"Redis at {self._address} does not answer: {what or type(error).__name__}")


def _keys(ask: Ask) -> Iterator[str]:
    """The page's key and each counter's. Only the tag stands in braces, so all of them are in one slot of a cluster;
    a tag with braces of its own is encoded."""
    page = "sidecar:{" + quote(ask.tag, safe="") + "}"
    yield page
    for counter in ask.counters:
        yield f"{page}:{counter.key}"
    for budget in ask.budgets:
        yield f"{page}:{budget.key}"


def _numbers(ask: Ask) -> Iterator[int]:
    yield from ask[1:6]
    yield len(ask.counters)
    for counter in ask.counters:
        yield from counter[1:8]
        yield len(counter.returns)
        for part in counter.returns:
            yield from part
    for budget in ask.budgets:
        yield from budget[1:]
    if ask.purse is not None:
        yield ask.purse.ceiling
        for priced in ask.purse.parts:
            yield from priced[:5]
            yield len(priced.steps)
            for step in priced.steps:
                yield from step


def _answer(reply: bytes, counters: int) -> Answer:
    numbers = [int(number) for number in unpack(f"<{len(reply) // 8}d", reply)]
    now, epoch, seq, passed = numbers[:4]
    end = 4 + 6 * counters
    standings = tuple(Standing(*numbers[i : i + 6]) for i in range(4, end, 6))
    budgets = tuple(BudgetStanding(*numbers[i : i + 6]) for i in range(end, len(numbers), 6))
    return Answer(now, epoch, seq, passed, standings, budgets)
