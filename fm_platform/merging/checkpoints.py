"""Whole checkpoints merged as a stream of tensors: memory is bounded by the largest one.

Tensors are read by offset, not mapped, so that what was merged does not stay in memory, and are
written behind a header that is known before the first of them (the safetensors format: the length
of a JSON header, the header, the bytes).
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.methods import METHODS, NEEDS, Layer, Settings

Tensor = Any
SHARD_BYTES = 5_000_000_000
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_LENGTH = struct.Struct("<Q")
_MOST_HEADER = 100_000_000  # the limit of the format
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Place:
    """Where one tensor is."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Checkpoint:
    """The tensors of a model folder, read one at a time.

    Args:
        folder: With `model.safetensors`, or an index and its shards.

    Raises:
        MergeRefusedError: If there are none, or a file is no safetensors file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[str, Place] = {}
        for file in _shards(folder):
            self.places.update(_places(file))

    def read(self, name: str) -> Tensor:
        """Return one tensor as it is stored.

        Raises:
            MergeRefusedError: If the file ends before it does.
        """
        import torch

        place = self.places[name]
        data = bytearray(place.end - place.start)
        with place.file.open("rb", buffering=0) as handle:
            handle.seek(place.start)
            view, done = memoryview(data), 0
            while done < len(data):
                count = handle.readinto(view[done:])
                if not count:
                    raise MergeRefusedError(
                        "a file ends before its last tensor", where=place.file,
                        expected=f"{place.end} bytes", found=f"{place.start + done} bytes",
                    )  # fmt: skip
                done += count
        dtype = getattr(torch, _DTYPES[place.dtype])
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return flat.reshape(place.shape)


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
    opened = [Checkpoint(folder) for folder in models]
    origin = Checkpoint(base) if base is not None else None
    pattern = origin or opened[0]
    _ensure_alike(pattern, opened)
    names = sorted(pattern.places)
    staged = out_dir.with_name(f".{out_dir.name}.merging")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        tensors = copied = 0
        with _Writer(staged, {n: pattern.places[n] for n in names}, shard_bytes) as writer:
            for done, name in enumerate(names, 1):
                if pattern.places[name].dtype in _FLOATS:
                    told = _merged(name, opened, origin, weights, method, settings or Settings())
                    tensors += 1
                else:
                    told = _equal(name, opened, pattern)
                    copied += 1
                writer.write(name, told)
                if on_progress is not None:
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
) -> Tensor:
    import torch

    begun = None if origin is None else origin.read(name).float()
    if method == "linear":  # added up as they come: two tensors at a time
        total = None if begun is None else begun * (1 - sum(weights))
        for model, weight in zip(models, weights, strict=True):
            part = model.read(name).float().mul_(weight)
            total = part if total is None else total.add_(part)
            del part
    else:
        updates = [model.read(name).float() for model in models]
        if begun is not None:
            updates = [update.sub_(begun) for update in updates]
        total = METHODS.get(method)(Layer(name, updates), weights, settings)
        total = total if begun is None else total + begun
    if total is None or not bool(torch.isfinite(total).all()):
        raise MergeRefusedError("the merge is not finite", where=name)
    pattern = origin or models[0]
    return total.to(getattr(torch, _DTYPES[pattern.places[name].dtype]))


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


class _Writer:
    """Writes tensors in order into shards, each header first."""

    def __init__(self, folder: Path, places: Mapping[str, Place], shard_bytes: int) -> None:
        self.folder = folder
        self.shards = list(_split(places, shard_bytes))
        self.places = places
        self._handle: BinaryIO | None = None
        self._left: list[str] = []
        self._next = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.close()
        if len(self.shards) > 1 and not self._left and self._next == len(self.shards):
            listed = {name: self._file(i) for i, names in enumerate(self.shards) for name in names}
            size = sum(place.end - place.start for place in self.places.values())
            index = {"metadata": {"total_size": size}, "weight_map": listed}
            (self.folder / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")

    def write(self, name: str, tensor: Tensor) -> None:
        import torch

        handle = self._handle
        if handle is None or not self._left:
            handle = self._begin()
        expected = self._left.pop(0)
        if name != expected:
            raise ValueError(f"tensors come in the order of the header: {expected}, not {name}")
        flat = tensor.contiguous().reshape(-1)
        if flat.numel():
            handle.write(memoryview(flat.view(torch.uint8).numpy()))

    def _begin(self) -> BinaryIO:
        if self._handle is not None:
            self._handle.close()
        names = self.shards[self._next]
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        position = 0
        for name in names:
            place = self.places[name]
            size = place.end - place.start
            header[name] = {
                "dtype": place.dtype, "shape": list(place.shape),
                "data_offsets": [position, position + size],
            }  # fmt: skip
            position += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        handle = self._handle = (self.folder / self._file(self._next)).open("wb")
        handle.write(_LENGTH.pack(len(text)) + text)
        self._left = list(names)
        self._next += 1
        return handle

    def _file(self, i: int) -> str:
        count = len(self.shards)
        return _SINGLE if count == 1 else f"model-{i + 1:05}-of-{count:05}.safetensors"


def _split(places: Mapping[str, Place], shard_bytes: int) -> Iterator[list[str]]:
    """Yield the names of each shard."""
    names: list[str] = []
    size = 0
    for name, place in places.items():
        own = place.end - place.start
        if names and size + own > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += own
    if names:
        yield names


def _shards(folder: Path) -> list[Path]:
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    index = folder / _INDEX
    if not index.is_file():
        raise MergeRefusedError(
            "this folder holds no model", where=folder, expected=f"{_SINGLE} or {_INDEX}",
            next_step="pickled weights are not read: save the model as safetensors",
        )  # fmt: skip
    try:
        listed = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise MergeRefusedError("the index cannot be read", where=index) from error
    outside = [name for name in listed if not isinstance(name, str) or Path(name).name != name]
    if outside:
        raise MergeRefusedError("the index names files elsewhere", where=index, found=outside[0])
    return [folder / name for name in listed]


def _places(file: Path) -> dict[str, Place]:
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            (length,) = _LENGTH.unpack(handle.read(_LENGTH.size))
            if length > min(_MOST_HEADER, size):
                raise ValueError(f"a header of {length} bytes")
            told = json.loads(handle.read(length))
        begin = _LENGTH.size + length
        found = {
            name: Place(
                file, about["dtype"], tuple(about["shape"]),
                begin + about["data_offsets"][0], begin + about["data_offsets"][1],
            )
            for name, about in told.items()
            if name != "__metadata__"
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise MergeRefusedError(
            "this is no safetensors file", where=file, found=f"{type(error).__name__}: {error}"
        ) from error
    strange = [
        n for n, p in found.items() if p.dtype not in _DTYPES or not p.start <= p.end <= size
    ]
    if strange:
        raise MergeRefusedError("tensors that cannot be read", where=file, found=strange[0])
    return found


def _copy_rest(source: Path, target: Path) -> None:
    """Copy configuration and tokenizer; no weights, and nothing that runs."""
    for path in sorted(source.iterdir()):
        if (
            path.is_file()
            and path.suffix in (".json", ".txt", ".model", ".jinja")
            and (path.name != _INDEX)
        ):
            shutil.copyfile(path, target / path.name)
