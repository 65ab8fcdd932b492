"""Small model folders, like the ones that training and merging publish."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from fm_platform.store.models import ModelStore


def make_model(folder: Path, seed: int = 0) -> Path:
    """Write an adapter-like folder; the bytes depend on `seed` alone."""
    rng = np.random.default_rng(seed)
    (folder / "tokenizer").mkdir(parents=True)
    tensors = {f"layer.{n}.weight": rng.random((16, 16), np.float32) for n in range(4)}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "seed": seed}))
    (folder / "config.json").write_text(json.dumps({"hidden_size": 16}))
    vocabulary = {f"word{n}": n for n in range(50)}
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps({"vocab": vocabulary}))
    return folder


def object_file(store: ModelStore, content_hash: str, part: str = "") -> Path:
    """Return where one tensor or file of a model is stored; the largest of those that fit."""
    found = [name for key, name in store.objects_of(content_hash).items() if key.startswith(part)]
    return max((store.objects.path(name) for name in found), key=lambda path: path.stat().st_size)


def flip_bit(path: Path, rng: np.random.Generator) -> None:
    """Flip one bit of a file, as a bad disk does."""
    data = bytearray(path.read_bytes())
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
