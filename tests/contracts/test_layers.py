"""The rules of the house, read from the syntax tree: imports run downwards."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Packages on one line do not import each other; a line may import every line below it.
# The first line is single modules without a package of their own: they may use one another.
LAYERS: list[set[str]] = [
    {"fm_platform.errors", "fm_platform.hashing", "fm_platform.home", "fm_platform.registry",
     "fm_platform.display", "fm_platform.fisher", "fm_platform.losses", "fm_platform.numerics"},
    {"fm_platform.spec"},
    {"fm_platform.store", "fm_platform.lineage"},
    {"fm_platform.labeling", "fm_platform.cleaning", "fm_platform.sources"},
    {"fm_platform.training", "fm_platform.merging", "fm_platform.evaluation",
     "fm_platform.monitoring"},
    {"fm_platform.tracking"},
    {"fm_platform.workspace"},
    {"fm_platform.stages", "fm_platform.upkeep"},
    {"fm_platform.universe"},
    {"fm_platform.web"},
    {"fm_platform.cli", "assets"},
]  # fmt: skip
LEVEL = {package: level for level, line in enumerate(LAYERS) for package in line}


def package_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "assets":
        return "assets"
    return ".".join(parts[:2]) if parts[0] == "fm_platform" and len(parts) > 1 else None


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            base = node.module or ""
            found += [(node.lineno, base)]
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def source_files() -> list[Path]:
    return sorted((ROOT / "fm_platform").rglob("*.py")) + sorted((ROOT / "assets").rglob("*.py"))


def test_every_package_has_a_layer() -> None:
    packages = {package_of(module_name(path)) for path in source_files()} - {None}

    assert packages <= set(LEVEL)


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_imports_run_downwards(path: Path) -> None:
    own = package_of(module_name(path))
    if own is None:
        return
    wrong = []
    for line, name in imported_modules(path):
        other = package_of(name)
        if other in LEVEL and other != own and LEVEL[other] >= max(LEVEL[own], 1):
            wrong.append(f"line {line}: {own} imports {name}")

    assert not wrong


def test_the_library_never_imports_dagster() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "fm_platform").rglob("*.py"))
        for line, name in imported_modules(path)
        if name.split(".")[0].startswith("dagster")
    ]

    assert offenders == []
