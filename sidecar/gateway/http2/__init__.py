"""HTTP/2 for clients over TLS: each stream becomes a connection of HTTP/1.1 in memory, on the one journey of the lane.

``heads`` writes a stream's head as one of HTTP/1.1, ``reply`` reads what the lane answers, ``stream`` is the transport
between the two, ``connection`` speaks the frames (the ``h2`` package) and gives every stream its turn.
"""

from sidecar.gateway.http2.connection import Http2Connection

__all__ = ["Http2Connection"]
