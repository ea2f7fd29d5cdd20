"""The composition root, the only room that names a store.

::

    App             one running sidecar in one process
    Parent, Worker  one in several: a parent of workers, and what each worker runs (``join``, ``serve``)
    take_over       asks the process that runs on the same data folder for its sockets
    open_offline    the operators' operations on the store itself, while no sidecar runs
    apply_schema, show_schema, move_storage    what concerns the store as a whole
"""

from sidecar.app.offline import apply_schema, move_storage, open_offline, show_schema
from sidecar.app.parent import Parent
from sidecar.app.running import App
from sidecar.app.takeover import Handed, take_over
from sidecar.app.worker import Worker, join, serve

__all__ = [
    "App",
    "Handed",
    "Parent",
    "Worker",
    "apply_schema",
    "join",
    "move_storage",
    "open_offline",
    "serve",
    "show_schema",
    "take_over",
]
