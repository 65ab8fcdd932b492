"""Fingerprints of code and environment: the parts of a recipe that are not data.

What computes content counts; what only stores, records, shows or schedules it does not. So the
closure of a module's `fm_platform` imports is followed, except into the packages of
`_INFRASTRUCTURE`. Comments, docstrings and formatting never count.
"""

from __future__ import annotations

import ast
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from fm_platform.hashing import fingerprint, sha256_hex

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

TABLE_PACKAGES = ("numpy", "polars", "pyarrow")
MODEL_PACKAGES = ("numpy", "peft", "safetensors", "tokenizers", "torch", "transformers")


def code_fingerprint(*modules: str) -> str:
    """Return a hash of the code of `modules` and of what they import from `fm_platform`.

    Nothing is imported: files are found by name and read as syntax trees.

    Raises:
        ModuleNotFoundError: If there is no such module.
    """
    seen: dict[str, str] = {}
    todo = sorted(modules)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        path = _file_of(name)
        if path is None:
            raise ModuleNotFoundError(f"no module {name}")
        digest, imports = _digest(str(path), path.stat().st_mtime_ns)
        seen[name] = digest
        todo += [other for other in imports if other not in seen and _counts(other)]
    return fingerprint(seen)


def _counts(name: str) -> bool:
    infrastructure = any(name == item or name.startswith(item + ".") for item in _INFRASTRUCTURE)
    return name.startswith("fm_platform.") and not infrastructure and _file_of(name) is not None


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
def _digest(path: str, _mtime_ns: int) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(Path(path).read_text("utf-8"))
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports.add(node.module)
            imports.update(f"{node.module}.{alias.name}" for alias in node.names)
    return sha256_hex(normal_form(tree).encode()), tuple(sorted(imports))


def normal_form(tree: ast.AST) -> str:
    """Return the text of a syntax tree without docstrings, comments and positions."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            node.body = body[1:] or [ast.Pass()]
    return ast.dump(tree, annotate_fields=False, include_attributes=False)


def packages(names: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each package, `-` where it is absent."""
    found = {}
    for name in sorted(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "-"
    return found


@cache
def environment_fingerprint(names: tuple[str, ...], machine: bool = False) -> str:
    """Return a hash of Python's minor version, some packages, and optionally the machine type."""
    value: dict[str, object] = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "packages": packages(names),
    }
    if machine:
        value["machine"] = machine_type()
    return fingerprint(value)


@cache
def machine_type() -> str:
    """Return architecture and processor: arithmetic may differ between them in the last bit."""
    model = platform.processor() or ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{platform.machine()} {model}".strip()


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """Return (commit, has uncommitted changes), or (None, None) outside a git checkout."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return None, None
    status = ask("status", "--porcelain", "--untracked-files=no")
    return commit, bool(status)
