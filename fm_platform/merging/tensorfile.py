"""Models in the safetensors format, a part of a tensor at a time.

Tensors are read by offset, not mapped, so that what was read does not stay in memory, and are
written behind a header that is known before the first of them (the length of a JSON header, the
header, the bytes).
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fm_platform.errors import MergeRefusedError

Tensor = Any
INDEX = "model.safetensors.index.json"
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_SINGLE = "model.safetensors"
_LENGTH = struct.Struct("<Q")
_MOST_HEADER = 100_000_000  # the limit of the format
_AHEAD = 1 << 25  # bytes of each file that are read before they are asked for


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
        self._handles: dict[Path, io.FileIO] = {}
        for file in _shards(folder):
            self.places.update(_places(file))

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()

    def size(self, name: str) -> int:
        """Return how many entries a tensor has."""
        return math.prod(self.places[name].shape)

    def read(self, name: str) -> Tensor:
        """Return one tensor as it is stored.

        Raises:
            MergeRefusedError: If the file ends before it does.
        """
        return self.part(name, 0, self.size(name)).reshape(self.places[name].shape)

    def part(self, name: str, first: int, last: int) -> Tensor:
        """Return the entries from `first` to before `last`, flat, as they are stored.

        Raises:
            MergeRefusedError: If the file ends before them.
        """
        import torch

        place = self.places[name]
        found = torch.empty(last - first, dtype=getattr(torch, DTYPES[place.dtype]))
        if not len(found):
            return found
        begin, done = place.start + first * found.itemsize, 0
        handle = self._handle(place.file)
        if first == 0 or begin // _AHEAD != (begin + found.nbytes) // _AHEAD:
            _read_ahead(handle, begin + found.nbytes)
        view = memoryview(found.view(torch.uint8).numpy().data)
        handle.seek(begin)
        while done < len(view):
            count = handle.readinto(view[done:])
            if not count:
                raise MergeRefusedError(
                    "a file ends before its last tensor", where=place.file,
                    expected=f"{place.end} bytes", found=f"{begin + done} bytes",
                )  # fmt: skip
            done += count
        return found

    def _handle(self, file: Path) -> io.FileIO:
        if file not in self._handles:
            self._handles[file] = file.open("rb", buffering=0)
        return self._handles[file]


def _read_ahead(handle: io.FileIO, begin: int) -> None:
    """Ask the system to have what follows at hand when it is read; where it can be asked."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle.fileno(), begin, 2 * _AHEAD, os.POSIX_FADV_WILLNEED)


class Writer:
    """Writes tensors in order into shards, each header first."""

    def __init__(self, folder: Path, places: Mapping[str, Place], shard_bytes: int) -> None:
        self.folder = folder
        self.shards = list(_split(places, shard_bytes))
        self.places = places
        self._handle: BinaryIO | None = None
        self._left: list[str] = []
        self._next = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.close()
        if len(self.shards) > 1 and not self._left and self._next == len(self.shards):
            listed = {name: self._file(i) for i, names in enumerate(self.shards) for name in names}
            size = sum(place.end - place.start for place in self.places.values())
            index = {"metadata": {"total_size": size}, "weight_map": listed}
            (self.folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")

    def write(self, name: str, parts: Iterator[Tensor]) -> None:
        """Write a tensor that comes in parts."""
        import torch

        handle = self._handle
        if handle is None or not self._left:
            handle = self._begin()
        expected = self._left.pop(0)
        if name != expected:
            raise ValueError(f"tensors come in the order of the header: {expected}, not {name}")
        for part in parts:
            flat = part.contiguous().reshape(-1)
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
    index = folder / INDEX
    if not index.is_file():
        raise MergeRefusedError(
            "this folder holds no model", where=folder, expected=f"{_SINGLE} or {INDEX}",
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
    strange = [n for n, p in found.items() if p.dtype not in DTYPES or not p.start <= p.end <= size]
    if strange:
        raise MergeRefusedError("tensors that cannot be read", where=file, found=strange[0])
    return found
