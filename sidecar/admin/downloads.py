"""Sends an export to a client: in pieces, as fast as the client reads, and cut off rather than short when it fails."""

import asyncio
import logging
from contextlib import aclosing

from aiohttp import web
from aiohttp.http import HttpVersion11

from sidecar.admin.exports import Export
from sidecar.admin.replies import SECURITY_HEADERS

STALLED_S = 120.0  # a client that reads nothing for so long is gone
_log = logging.getLogger(__name__)


async def send_export(request: web.Request, export: Export) -> web.StreamResponse:
    """The reply, all of it sent. What fails before the first piece is raised, to be answered with a problem document;
    after that the connection is cut, so that no client takes what it has for the whole."""
    if request.version < HttpVersion11:
        raise ValueError("exports need HTTP/1.1: without chunks a broken one would look whole")
    disposition = f'attachment; filename="{export.filename}"'
    headers = SECURITY_HEADERS | {"Content-Type": export.content_type, "Content-Disposition": disposition}
    reply = web.StreamResponse(headers=headers)
    async with aclosing(export.chunks) as chunks:
        first = await anext(chunks, b"")
        await reply.prepare(request)
        try:
            if first:
                await _send(reply, first)
            async for chunk in chunks:
                await _send(reply, chunk)
            await reply.write_eof()
        except (ConnectionError, TimeoutError) as error:
            _log.info("an export was not read to its end: %s", error or "the client stalled")
            _cut(request)
        except asyncio.CancelledError:
            _cut(request)
            raise
        except Exception as error:
            _log.error("an export was cut off: %s", error)
            _cut(request)
    return reply


async def _send(reply: web.StreamResponse, chunk: bytes) -> None:
    async with asyncio.timeout(STALLED_S):
        await reply.write(chunk)


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
