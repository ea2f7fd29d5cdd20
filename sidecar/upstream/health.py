"""Active health checks: a GET per target each ``every``, over aiohttp, beside the lane."""

import asyncio
import logging
import socket
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from sidecar.core.errors import UpstreamError
from sidecar.upstream.pool import UpstreamPool
from sidecar.upstream.target import TargetPool

_log = logging.getLogger(__name__)


_NUMBERS: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class _Judged(AbstractResolver):
    """The target's own addresses, as calls get them: those that may not be connected to are not among them."""

    def __init__(self, target: TargetPool) -> None:
        self._target = target

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._target.addresses.next()
        return [
            ResolveResult(hostname=host, host=a, port=port, family=_family(a), proto=0, flags=_NUMBERS) for a in found
        ]

    async def close(self) -> None:
        """Holds nothing."""


class HealthChecks:
    """Watches the targets of upstreams that have ``health`` set. Start it with ``run`` in a task; cancel it to stop."""

    def __init__(self, pools: list[UpstreamPool]) -> None:
        self._pools = pools

    async def run(self) -> None:
        """Checks until cancelled; returns at once when no upstream has a check."""
        pools = [pool for pool in self._pools if pool.upstream.health is not None]
        await asyncio.gather(*(self._watch(target) for pool in pools for target in pool.targets))

    async def _watch(self, target: TargetPool) -> None:
        health = target.pool.upstream.health
        assert health is not None
        async with check_session(target) as session:
            while True:
                await check(session, target, health.path, health.timeout_ns / 1e9)
                await asyncio.sleep(health.every_ns / 1e9)


def check_session(target: TargetPool) -> aiohttp.ClientSession:
    """What a target is checked with: a new connection each time, so that one that takes none any more is noticed."""
    path = target.target.socket
    connector: aiohttp.BaseConnector
    if path:
        connector = aiohttp.UnixConnector(path, force_close=True)
    else:
        connector = aiohttp.TCPConnector(force_close=True, resolver=_Judged(target), use_dns_cache=False)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def check(session: aiohttp.ClientSession, target: TargetPool, path: str, timeout_s: float) -> None:
    """One check: 2xx and 3xx are healthy; the body is not read, a redirect is not followed."""
    try:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        url, host = f"{target.target.url}{path}", {"Host": target.authority.decode()}
        tls, name = target.tls or True, target.server_name
        async with session.get(
            url, timeout=timeout, headers=host, allow_redirects=False, ssl=tls, server_hostname=name
        ) as reply:
            healthy = reply.status < 400
            why = f"answered {reply.status}"
    except (aiohttp.ClientError, TimeoutError, OSError, UpstreamError) as error:
        healthy, why = False, type(error).__name__
    before = target.healthy
    target.mark(healthy=healthy)
    if target.healthy != before:
        _log.warning("target %s is %s", target.target, "healthy again" if healthy else f"unhealthy: {why}")


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
