"""The life of the processes: configuration, event loop, ready line, signals, drain.

::

    run       the process that the command line starts: everything, or the parent of workers
    worker    the module that a parent starts (``python -m sidecar.serve.worker``)
"""

from sidecar.serve.running import run

__all__ = ["run"]
