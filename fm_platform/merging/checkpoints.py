"""Whole checkpoints merged as a stream of tensors: memory is bounded by the largest one.

Sums are made in blocks that fit the cache of a processor, while the system is asked to read on
ahead; see `tensorfile` for how tensors are read and written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.methods import METHODS, NEEDS, Layer, Settings
from fm_platform.merging.tensorfile import DTYPES, INDEX, Checkpoint, Writer
from fm_platform.numerics import reproducible

Tensor = Any
SHARD_BYTES = 5_000_000_000
_FLOATS = ("F64", "F32", "F16", "BF16")
_BLOCK = 1 << 18  # entries that are summed at a time


@dataclass(frozen=True)
class Merged:
    """What a merge of checkpoints did.

    Attributes:
        tensors: How many were merged; the rest was copied.
        copied: How many were copied because they hold no fractions.
        read: Bytes.
        written: Bytes.
    """

    tensors: int
    copied: int
    read: int
    written: int


def merge_checkpoints(
    models: Sequence[Path],
    weights: Sequence[float],
    out_dir: Path,
    *,
    base: Path | None = None,
    method: str = "linear",
    settings: Settings | None = None,
    shard_bytes: int = SHARD_BYTES,
    on_progress: Callable[[int, int], None] | None = None,
) -> Merged:
    """Merge model folders of one architecture into one.

    Computed in float32; each tensor is written in the type that it has in `base`, or in the
    first model. Configuration and tokenizer are copied from there. The folder appears whole.

    Args:
        models: Folders.
        weights: One per model.
        out_dir: Folder to write; it must not be there.
        base: What all models began from: their updates are merged. Without it the tensors
            themselves are.
        method: One of `METHODS` that needs nothing but the tensors.
        settings: Of the method.
        shard_bytes: Files are no larger, unless one tensor is.
        on_progress: Told of each tensor: done, all.

    Raises:
        MergeRefusedError: If the models do not fit together, the method needs more, a result is
            not finite, or the folder is there.
    """
    _ensure_possible(models, weights, out_dir, method)
    with ExitStack() as stack:
        # blocks are too small to be shared: where the machine is busy, threads wait for each other
        stack.enter_context(reproducible(threads=1))
        opened = [stack.enter_context(Checkpoint(folder)) for folder in models]
        origin = None if base is None else stack.enter_context(Checkpoint(base))
        return _streamed(
            opened, origin, weights, out_dir, method, settings or Settings(), shard_bytes,
            on_progress or (lambda _done, _all: None),
        )  # fmt: skip


def _streamed(
    opened: Sequence[Checkpoint],
    origin: Checkpoint | None,
    weights: Sequence[float],
    out_dir: Path,
    method: str,
    settings: Settings,
    shard_bytes: int,
    on_progress: Callable[[int, int], None],
) -> Merged:
    pattern = origin or opened[0]
    _ensure_alike(pattern, opened)
    names = sorted(pattern.places)
    staged = out_dir.with_name(f".{out_dir.name}.merging")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        tensors = copied = 0
        with Writer(staged, {n: pattern.places[n] for n in names}, shard_bytes) as writer:
            for done, name in enumerate(names, 1):
                if pattern.places[name].dtype in _FLOATS:
                    told = _merged(name, opened, origin, weights, method, settings)
                    tensors += 1
                else:
                    told = iter([_equal(name, opened, pattern)])
                    copied += 1
                writer.write(name, told)
                on_progress(done, len(names))
        _copy_rest(pattern.folder, staged)
        staged.rename(out_dir)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    parts = [*opened, *([origin] if origin else [])]
    read = sum(place.end - place.start for part in parts for place in part.places.values())
    written = sum(file.stat().st_size for file in out_dir.glob("*.safetensors"))
    return Merged(tensors, copied, read, written)


def _ensure_possible(
    models: Sequence[Path], weights: Sequence[float], out_dir: Path, method: str
) -> None:
    METHODS.get(method)
    if method in NEEDS:
        raise MergeRefusedError(
            f"{method} measures what each model knows on its rows, and checkpoints have none",
            expected=", ".join(name for name in METHODS.names() if name not in NEEDS),
        )
    if not models or len(models) != len(weights):
        raise MergeRefusedError(
            "a merge needs one weight per model", expected=len(models), found=len(weights)
        )
    if out_dir.exists():
        raise MergeRefusedError("the folder is there already", where=out_dir)


def _ensure_alike(pattern: Checkpoint, models: Sequence[Checkpoint]) -> None:
    for model in models:
        names = pattern.places.keys() ^ model.places.keys()
        wrong = [
            f"{name}: {model.places[name].shape} instead of {pattern.places[name].shape}"
            for name in sorted(pattern.places.keys() & model.places.keys())
            if model.places[name].shape != pattern.places[name].shape
        ]
        if names or wrong:
            raise MergeRefusedError(
                "models of different architectures", where=model.folder,
                expected=f"the tensors of {pattern.folder}",
                found="; ".join([*(f"{n} is on one side only" for n in sorted(names)), *wrong][:5]),
            )  # fmt: skip


def _merged(
    name: str,
    models: Sequence[Checkpoint],
    origin: Checkpoint | None,
    weights: Sequence[float],
    method: str,
    settings: Settings,
) -> Iterator[Tensor]:
    """Yield the merged tensor in blocks, flat, in the type of the result."""
    import torch

    pattern = origin or models[0]
    dtype = getattr(torch, DTYPES[pattern.places[name].dtype])
    if method == "linear":
        blocks = _summed(name, models, origin, weights)
    else:
        blocks = iter([_whole(name, models, origin, weights, method, settings)])
    for block in blocks:
        if not bool(torch.isfinite(block).all()):
            raise MergeRefusedError("the merge is not finite", where=name)
        yield block.to(dtype)


def _summed(
    name: str, models: Sequence[Checkpoint], origin: Checkpoint | None, weights: Sequence[float]
) -> Iterator[Tensor]:
    """Yield base * (1 - sum w_i) + sum w_i * model_i, block by block."""
    size = models[0].size(name)
    rest = 1 - sum(weights)
    for first in range(0, size, _BLOCK) or (0,):
        last = min(first + _BLOCK, size)
        total = None if origin is None else origin.part(name, first, last).float().mul_(rest)
        for model, weight in zip(models, weights, strict=True):
            part = model.part(name, first, last).float().mul_(weight)
            total = part if total is None else total.add_(part)
        yield total


def _whole(
    name: str,
    models: Sequence[Checkpoint],
    origin: Checkpoint | None,
    weights: Sequence[float],
    method: str,
    settings: Settings,
) -> Tensor:
    begun = None if origin is None else origin.read(name).float()
    updates = [model.read(name).float() for model in models]
    if begun is not None:
        updates = [update.sub_(begun) for update in updates]
    merged = METHODS.get(method)(Layer(name, updates), weights, settings)
    return merged if begun is None else begun.add_(merged)


def _equal(name: str, models: Sequence[Checkpoint], pattern: Checkpoint) -> Tensor:
    import torch

    told = pattern.read(name)
    for model in models:
        if not torch.equal(model.read(name), told):
            raise MergeRefusedError(
                "a tensor of whole numbers differs, and there is no mean of it",
                where=f"{model.folder}: {name}",
            )
    return told


def _copy_rest(source: Path, target: Path) -> None:
    """Copy configuration and tokenizer; no weights, and nothing that runs."""
    for path in sorted(source.iterdir()):
        if (
            path.is_file()
            and path.suffix in (".json", ".txt", ".model", ".jinja")
            and (path.name != INDEX)
        ):
            shutil.copyfile(path, target / path.name)
