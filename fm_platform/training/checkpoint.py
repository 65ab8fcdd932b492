"""Checkpoints of a training: tensors as safetensors, the rest as JSON, hashes over both.

A checkpoint appears by one rename, so it is whole or absent; a damaged one is not used, and a
checkpoint of another training neither.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fm_platform.hashing import sha256_file

_NAME, _OLD, _NEW = "checkpoint", ".checkpoint.old", ".checkpoint.new"
_FILES = ("state.json", "state.safetensors")
_LOG = logging.getLogger(__name__)


def save(folder: Path, tensors: Mapping[str, Any], state: Mapping[str, Any], identity: str) -> None:
    """Replace the checkpoint of `folder`.

    Args:
        folder: Work folder of one training.
        tensors: Name -> tensor.
        state: JSON-able; floats come back bit for bit.
        identity: Hash of what is trained with what; `load` asks for the same.
    """
    from safetensors.torch import save_file

    staged = folder / _NEW
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, staged / "state.safetensors")
    (staged / "state.json").write_text(json.dumps(dict(state)), "utf-8")
    manifest = {
        "identity": identity, "sha256": {name: sha256_file(staged / name) for name in _FILES},
    }  # fmt: skip
    (staged / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    for path in (*staged.iterdir(), staged):
        _fsync(path)
    current, old = folder / _NAME, folder / _OLD
    if current.exists():
        shutil.rmtree(old, ignore_errors=True)
        current.rename(old)
    staged.rename(current)
    _fsync(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, identity: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return (tensors, state) of the last whole checkpoint of this training, or None.

    A kill between two renames leaves the previous one under its old name: it is used then. Why
    a checkpoint is not used goes to the log.
    """
    from safetensors.torch import load_file

    for name in (_NAME, _OLD):
        path = folder / name
        if not path.is_dir():
            continue
        problem = _problem(path, identity)
        if problem is None:
            state = json.loads((path / "state.json").read_text("utf-8"))
            return load_file(path / "state.safetensors"), state
        _LOG.warning("checkpoint not used, training starts before it: %s", problem)
    return None


def _problem(path: Path, identity: str) -> str | None:
    try:
        manifest = json.loads((path / "manifest.json").read_text("utf-8"))
        if manifest["identity"] != identity:
            return "it belongs to another training"
        for name in _FILES:
            if manifest["sha256"][name] != sha256_file(path / name):
                return f"the bytes of {name} are not those that were written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"it is not whole ({type(error).__name__})"
    return None


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
