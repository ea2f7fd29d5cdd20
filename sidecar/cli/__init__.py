"""The commands: parse, call one function, print. ``main`` is the console script."""

from sidecar.cli.arguments import make_parser
from sidecar.cli.entry import main

__all__ = ["main", "make_parser"]
