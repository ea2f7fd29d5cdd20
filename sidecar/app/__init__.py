"""The composition root, the only room that names a store.

::

    App             one running sidecar
    open_offline    the operators' operations on the store itself, while no sidecar runs
    apply_schema, show_schema, move_storage    what concerns the store as a whole
"""

from sidecar.app.offline import apply_schema, move_storage, open_offline, show_schema
from sidecar.app.running import App

__all__ = ["App", "apply_schema", "move_storage", "open_offline", "show_schema"]
