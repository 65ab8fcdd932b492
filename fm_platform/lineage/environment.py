"""What a computation runs in: Python, packages, machine type, the commit of the code."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fm_platform.hashing import fingerprint, sha256_file

TABLE_PACKAGES = ("numpy", "polars", "pyarrow")
MODEL_PACKAGES = ("numpy", "peft", "safetensors", "tokenizers", "torch", "transformers")

_relevant: dict[str, dict[str, Any]] = {}


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
def _fingerprint_of(names: tuple[str, ...], machine: bool) -> str:
    value: dict[str, Any] = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "packages": packages(names),
    }
    if machine:
        value["machine"] = machine_type()
    found = fingerprint(value)
    _relevant[found] = value
    return found


def environment_fingerprint(names: Sequence[str], machine: bool = False) -> str:
    """Return a hash of Python's minor version, some packages, and optionally the machine type.

    Args:
        names: Distribution names of the packages whose version can alter the content.
        machine: Whether the processor can, too: where floats are summed in its own order.
    """
    return _fingerprint_of(tuple(sorted(set(names))), machine)


def relevant_environment(found: str) -> dict[str, Any] | None:
    """Return what a fingerprint of this process stands for, or None."""
    return _relevant.get(found)


@cache
def machine_type() -> str:
    """Return architecture, processor and its vector units, and the GPU if there is one.

    Arithmetic may differ between them in the last bit.
    """
    words = [platform.machine(), platform.processor() or ""]
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields: dict[str, str] = {}
        for line in info.read_text("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        flags = set(fields.get("flags", fields.get("Features", "")).split())
        units = ("amx_tile", "avx512f", "avx2", "avx", "sve", "asimd")
        words = [
            platform.machine(),
            fields.get("model name", ""),
            next((unit for unit in units if unit in flags), ""),
        ]
    return " ".join([*(word for word in words if word), *_gpu_names()])


def _gpu_names() -> list[str]:
    """Return the names of the NVIDIA GPUs that the kernel driver shows."""
    found = set()
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in file.read_text("utf-8", "replace").splitlines():
            if line.startswith("Model:"):
                found.add(line.partition(":")[2].strip())
    return sorted(found)


def _installed() -> dict[str, str]:
    """Return package -> version from the names of the metadata folders (PEP 376, PEP 427).

    Reading the metadata files themselves takes a hundred times as long.
    """
    found: dict[str, str] = {}
    for entry in sys.path:
        folder = Path(entry or ".")
        names = (path.name for path in folder.glob("*.dist-info")) if folder.is_dir() else ()
        for name in names:
            package, _, number = name.removesuffix(".dist-info").partition("-")
            found.setdefault(package.lower().replace("_", "-"), number)
    return dict(sorted(found.items()))


@cache
def environment() -> dict[str, Any]:
    """Return everything that is installed, the machine type and the hash of the lock file."""
    lock = Path(__file__).resolve().parents[2] / "constraints.txt"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": machine_type(),
        "packages": _installed(),
        "lock": sha256_file(lock) if lock.is_file() else None,
    }


@cache
def environment_hash() -> str:
    """Return the hash of `environment()`."""
    found = fingerprint(environment())
    _relevant[found] = environment()
    return found


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """Return (commit, has uncommitted changes), or (None, None) outside a git checkout."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))


def last_change(folder: Path) -> str:
    """Return in words which commit changed a folder last; empty outside a git checkout."""
    if _git(folder, "status", "--porcelain", "--", "."):
        return " in uncommitted changes"
    commit = _git(folder, "log", "-1", "--format=%H", "--", ".")
    return f" at commit {commit[:7]}" if commit else ""


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
