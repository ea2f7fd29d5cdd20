"""HTTP/1.1 heads (RFC 9110, 9112): what crosses the proxy, what is stripped, what framing is refused. Pure: no I/O.

llhttp has already refused what no head may contain (obs-fold, bare CR or LF, NUL, space before a colon, a length with
a transfer coding); this room refuses what llhttp lets through and decides what of the rest crosses.
"""

from sidecar.http1.chunks import BadChunks, ChunkReader
from sidecar.http1.frames import MessageCounter, close_frame
from sidecar.http1.paths import PathMeaning, read_path
from sidecar.http1.reply import ReplyHead, ReplyMemory, read_reply, switches_to_websocket, trailer_lines
from sidecar.http1.request import Field, Malformed, RequestHead, RequestReader
from sidecar.http1.writing import chunk, head_bytes, problem_reply, reason_phrase

__all__ = [
    "BadChunks",
    "ChunkReader",
    "Field",
    "Malformed",
    "MessageCounter",
    "PathMeaning",
    "ReplyHead",
    "ReplyMemory",
    "RequestHead",
    "RequestReader",
    "chunk",
    "close_frame",
    "head_bytes",
    "problem_reply",
    "read_path",
    "read_reply",
    "reason_phrase",
    "switches_to_websocket",
    "trailer_lines",
]
