"""Names that a package exports exist, are sorted, and say what they are."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import fm_platform

PACKAGES = sorted(
    f"fm_platform.{info.name}" for info in pkgutil.iter_modules(fm_platform.__path__) if info.ispkg
)


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_are_complete_and_documented(package: str) -> None:
    module = importlib.import_module(package)

    assert module.__doc__
    names = list(getattr(module, "__all__", []))
    assert names == sorted(names)
    for name in names:
        assert hasattr(module, name), f"{package}.__all__ names {name}, which is not there"
