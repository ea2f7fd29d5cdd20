"""The link between a parent and its workers: one Unix socket, and at the worker's end the ports that the parent serves.

::

    Wire        values as bytes
    Channel     one connection: calls both ways
    LinkServer, connect    the socket
    BookStore   the parent's limits
    LinkStore, LinkLimitStore    look-ups, the ledger and the limits of a worker
"""

from sidecar.storage.link.book import BookStore
from sidecar.storage.link.channel import Channel, Handler
from sidecar.storage.link.sockets import LinkServer, connect, own_socket, short_name
from sidecar.storage.link.stores import LinkLimitStore, LinkStore
from sidecar.storage.link.wire import Wire

__all__ = [
    "BookStore",
    "Channel",
    "Handler",
    "LinkLimitStore",
    "LinkServer",
    "LinkStore",
    "Wire",
    "connect",
    "own_socket",
    "short_name",
]
