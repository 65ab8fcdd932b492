"""Checkpoints of a training: tensors as safetensors, the rest as JSON, hashes over both.

A checkpoint appears by one rename, so it is whole or absent; a damaged one is not used.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fm_platform.hashing import sha256_file

_NAME = "checkpoint"


def save(folder: Path, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Replace the checkpoint of `folder`."""
    from safetensors.torch import save_file

    staged = folder / f".{_NAME}.new"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    save_file({name: t.detach().contiguous() for name, t in tensors.items()},
              staged / "state.safetensors")  # fmt: skip
    (staged / "state.json").write_text(json.dumps(dict(state)), "utf-8")
    hashes = {path.name: sha256_file(path) for path in sorted(staged.iterdir())}
    (staged / "hashes.json").write_text(json.dumps(hashes), "utf-8")
    for path in (*staged.iterdir(), staged):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    current, old = folder / _NAME, folder / f".{_NAME}.old"
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        current.rename(old)
    staged.rename(current)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return (tensors, state) of the last whole checkpoint, or None.

    A kill between two renames leaves the previous one under its old name: it is used then.
    """
    for name in (_NAME, f".{_NAME}.old"):
        path = folder / name
        if _whole(path):
            from safetensors.torch import load_file

            state = json.loads((path / "state.json").read_text("utf-8"))
            return load_file(path / "state.safetensors"), state
    return None


def _whole(path: Path) -> bool:
    try:
        hashes = json.loads((path / "hashes.json").read_text("utf-8"))
        return bool(hashes) and all(sha256_file(path / n) == h for n, h in hashes.items())
    except (OSError, ValueError):
        return False
