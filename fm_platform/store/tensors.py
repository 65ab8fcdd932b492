"""Safetensors files taken apart into tensors, and put together again, byte for byte.

A safetensors file is the length of a JSON header, the header, and the bytes of the tensors, one
after the other (https://github.com/huggingface/safetensors, "Format"). Each tensor becomes a small
safetensors file of its own under its own name, so that it can be read by anybody and be a shard
of a checkpoint; header and order of the tensors are kept, so that the whole file comes back.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_LENGTH = struct.Struct("<Q")
_MOST_HEADER = 100_000_000  # the limit of the format
# Readers of shards ask which library wrote them; the answer is the same for every tensor.
_METADATA = {"format": "pt"}


@dataclass(frozen=True)
class TensorFile:
    """Where the tensors of one safetensors file are.

    Attributes:
        header: The text of the header, padding included.
        tensors: In the order of their bytes.
    """

    header: str
    tensors: tuple[TensorSpan, ...]


@dataclass(frozen=True)
class TensorSpan:
    """One tensor: what the header says of it, and its bytes from `start` to `end` of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def parse(data: memoryview) -> TensorFile | None:
    """Return where the tensors are; None where the bytes between the tensors would be lost.

    Args:
        data: The bytes of a whole file.

    Returns:
        None for a file whose tensors do not fill it gap by gap, or with an unusual header: such
        a file is kept whole.
    """
    if len(data) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(data[: _LENGTH.size])
    begin = _LENGTH.size + length
    if length > _MOST_HEADER or begin > len(data):
        return None
    try:
        text = bytes(data[_LENGTH.size : begin]).decode("utf-8")
        told: dict[str, dict[str, Any]] = json.loads(text)
        spans = sorted(
            (
                TensorSpan(
                    name, str(about["dtype"]), tuple(int(n) for n in about["shape"]),
                    begin + int(about["data_offsets"][0]), begin + int(about["data_offsets"][1]),
                )
                for name, about in told.items()
                if name != "__metadata__"
            ),
            key=lambda span: (span.start, span.end, span.name),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None
    position = begin
    for span in spans:
        if span.start != position or span.end < span.start:
            return None
        position = span.end
    return TensorFile(text, tuple(spans)) if spans and position == len(data) else None


def prefix(header: str) -> bytes:
    """Return the bytes of a file before its tensors."""
    text = header.encode("utf-8")
    return _LENGTH.pack(len(text)) + text


def single_header(span: TensorSpan) -> bytes:
    """Return the bytes before the tensor in the file that holds it alone."""
    about = {
        "dtype": span.dtype, "shape": list(span.shape), "data_offsets": [0, span.end - span.start],
    }  # fmt: skip
    text = json.dumps(
        {"__metadata__": _METADATA, span.name: about}, separators=(",", ":"), ensure_ascii=False
    )
    size = len(text.encode("utf-8"))
    return prefix(text + " " * (-size % 8))


def payload(single: memoryview) -> memoryview:
    """Return the bytes of the tensor in a file that holds it alone."""
    length = int.from_bytes(single[: _LENGTH.size], "little")
    return single[_LENGTH.size + length :]


def names(header: str) -> Iterator[str]:
    """Yield the names of the tensors in the order of their bytes."""
    told = json.loads(header)
    listed = [
        (*about["data_offsets"], name) for name, about in told.items() if name != "__metadata__"
    ]
    for *_, name in sorted(listed):
        yield name
