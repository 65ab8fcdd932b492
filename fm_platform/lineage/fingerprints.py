"""Fingerprints of code and environment: the parts of a recipe that are not data.

The rule for code: what computes content counts; what only stores, records, shows or schedules it
does not. So the closure of a module's `fm_platform` imports is followed, except into
`_INFRASTRUCTURE`. An import of a name that a package only passes on leads to the module that
defines it. Comments, docstrings, formatting and imports for type checkers alone never count.

Nothing is imported: files are found by name and read as syntax trees.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fm_platform.hashing import fingerprint, sha256_hex
from fm_platform.lineage.environment import (
    MODEL_PACKAGES,
    TABLE_PACKAGES,
    environment,
    environment_fingerprint,
    environment_hash,
    git_state,
    machine_type,
    packages,
    relevant_environment,
)

__all__ = [
    "MODEL_PACKAGES",
    "TABLE_PACKAGES",
    "code_closure",
    "code_fingerprint",
    "code_stands_still",
    "described",
    "environment",
    "environment_fingerprint",
    "environment_hash",
    "git_state",
    "machine_type",
    "normal_form",
    "packages",
]

_ROOT = "fm_platform"
_INFRASTRUCTURE = (
    "fm_platform.errors",
    "fm_platform.home",
    "fm_platform.registry",
    "fm_platform.display",
    "fm_platform.spec",  # what a person declares enters a recipe as its config
    "fm_platform.lineage",
    "fm_platform.store",
    "fm_platform.tracking",
    "fm_platform.workspace",
    "fm_platform.stages.common",
)

_closures: dict[str, dict[str, str]] = {}
_standing: ContextVar[dict[tuple[str, ...], str] | None] = ContextVar("_standing", default=None)


def code_fingerprint(*modules: str) -> str:
    """Return a hash of the code of `modules` and of what they import from `fm_platform`.

    Files are parsed once a process and again when their modification time changes.

    Raises:
        ModuleNotFoundError: If there is no such module.
    """
    memo = _standing.get()
    if memo is not None and modules in memo:
        return memo[modules]
    closure = code_closure(*modules)
    found = fingerprint(closure)
    _closures[found] = closure
    if memo is not None:
        memo[modules] = found
    return found


def code_closure(*modules: str) -> dict[str, str]:
    """Return module name -> hash of its code, for `modules` and all that counts below them."""
    seen: dict[str, str] = {}
    todo = sorted(modules)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        module = _read(name)
        if module is None:
            raise ModuleNotFoundError(f"no module {name}")
        seen[name] = module.digest
        for imported, item in module.imports:
            todo += [target for target in _targets(imported, item) if target not in seen]
    return dict(sorted(seen.items()))


@contextmanager
def code_stands_still() -> Iterator[None]:
    """Look at the files of each stage only once within this block."""
    token = _standing.set({})
    try:
        yield
    finally:
        _standing.reset(token)


def described(hashes: Iterable[str]) -> list[tuple[str, str, Any]]:
    """Return (hash, kind, body) for those fingerprints that this process made."""
    found: list[tuple[str, str, Any]] = []
    for item in hashes:
        if item in _closures:
            found.append((item, "code", _closures[item]))
        elif (body := relevant_environment(item)) is not None:
            found.append((item, "environment", body))
    return found


def normal_form(tree: ast.AST) -> str:
    """Return the text of a syntax tree without docstrings, comments and positions."""
    for node in _statements(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree, annotate_fields=False, include_attributes=False)


@dataclass(frozen=True)
class _Module:
    """What one file says.

    Attributes:
        digest: Hash of its normal form.
        imports: (module, imported name or None) of every import that runs.
        origins: Name -> (module, name) where a top-level import brings it from.
    """

    digest: str
    imports: tuple[tuple[str, str | None], ...]
    origins: dict[str, tuple[str, str]]


@cache
def _counts(name: str) -> bool:
    infrastructure = any(name == item or name.startswith(item + ".") for item in _INFRASTRUCTURE)
    return name.startswith(_ROOT + ".") and not infrastructure


def _targets(module: str, item: str | None) -> list[str]:
    """Return the modules that `import module` or `from module import item` depends on."""
    for _ in range(10):  # a chain of packages that pass a name on
        if item is not None and _file_of(f"{module}.{item}") is not None:
            module, item = f"{module}.{item}", None
        if not _counts(module):
            return []
        read = _read(module) if item is not None and _is_package(module) else None
        if read is None or item not in read.origins:
            break
        module, item = read.origins[item]
    return [module] if _file_of(module) is not None else []


def _read(name: str) -> _Module | None:
    path = _file_of(name)
    return None if path is None else _parsed(str(path), path.stat().st_mtime_ns)


def _is_package(name: str) -> bool:
    path = _file_of(name)
    return path is not None and path.name == "__init__.py"


@cache
def _file_of(name: str) -> Path | None:
    """Return the file of a module without importing its package."""
    root, *rest = name.split(".")
    spec = find_spec(root)
    if spec is None or not spec.submodule_search_locations:
        return None
    base = Path(spec.submodule_search_locations[0]).joinpath(*rest)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _parsed(path: str, _mtime_ns: int) -> _Module:
    tree = ast.parse(Path(path).read_text("utf-8"))
    imports: set[tuple[str, str | None]] = set()
    origins: dict[str, tuple[str, str]] = {}
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            imports.update((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                imports.add((node.module, alias.name))
                origins[alias.asname or alias.name] = (node.module, alias.name)
    ordered = tuple(sorted(imports, key=lambda pair: (pair[0], pair[1] or "")))
    return _Module(sha256_hex(normal_form(tree).encode("utf-8", "surrogatepass")), ordered, origins)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk the statements of a tree; blocks that only a type checker sees are cut off."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and _for_type_checkers(node.test):
            node.body = [ast.Pass()]
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                todo.extend(block)


def _for_type_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"
