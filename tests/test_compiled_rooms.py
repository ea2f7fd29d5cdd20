"""What the compiled request path asks of the modules that stay interpreted (docs/decisions/0007-compiled-lane.md)."""

import dataclasses
import importlib
import inspect
import pickle
import pkgutil
import runpy
from fractions import Fraction
from pathlib import Path

import setuptools

import sidecar
from sidecar.core import policy
from sidecar.core.money import Money


def compiled_modules() -> set[str]:
    real, setuptools.setup = setuptools.setup, lambda **_: None
    try:
        files = runpy.run_path(str(Path(sidecar.__file__).parent.parent / "setup.py"))["HOT"]
    finally:
        setuptools.setup = real
    return {file.removesuffix(".py").replace("/", ".") for file in files}


def test_what_workers_are_sent_says_itself_how_it_is_made_again() -> None:
    """A compiled frozen class refuses the assignments by which pickle fills what it has made."""
    compiled = compiled_modules()
    sent = [value for value in vars(policy).values() if dataclasses.is_dataclass(value)]
    assert Money in sent
    for value in sent:
        assert value.__module__ not in compiled or "__reduce__" in vars(value), value
    cent = Money(Fraction(1, 100), "USD")
    assert pickle.loads(pickle.dumps(cent)) == cent


def test_no_interpreted_class_inherits_from_a_compiled_one() -> None:
    """mypyc refuses that when such a class is first made, which may be with the first call that spends money."""
    compiled = compiled_modules()
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


def test_no_compiled_class_is_held_weakly() -> None:
    """mypyc gives its classes no room for weak references, whatever their slots say."""
    weak = []
    for name in sorted(compiled_modules()):
        for _, value in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if value.__module__ == name and "__weakref__" in vars(value).get("__slots__", ()):
                weak.append(f"{name}.{value.__name__}")
    assert weak == []
