"""What the compiled request path asks of the modules that stay interpreted (docs/decisions/0007-compiled-lane.md)."""

import importlib
import inspect
import pkgutil
import runpy
from pathlib import Path

import setuptools

import sidecar


def test_no_interpreted_class_inherits_from_a_compiled_one() -> None:
    """mypyc refuses that when such a class is first made, which may be with the first call that spends money."""
    real, setuptools.setup = setuptools.setup, lambda **_: None
    try:
        files = runpy.run_path(str(Path(sidecar.__file__).parent.parent / "setup.py"))["HOT"]
    finally:
        setuptools.setup = real
    compiled = {file.removesuffix(".py").replace("/", ".") for file in files}
    torn = []
    for found in pkgutil.walk_packages(sidecar.__path__, "sidecar."):
        if found.name in compiled or found.name.endswith(".__main__"):
            continue
        module = importlib.import_module(found.name)
        for name, value in inspect.getmembers(module, inspect.isclass):
            if value.__module__ == found.name and any(base.__module__ in compiled for base in value.__bases__):
                torn.append(f"{found.name}.{name}")
    assert torn == []
    assert "sidecar.gateway.exchange" in compiled
