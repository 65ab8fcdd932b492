"""Ascending places as the gaps between them, in as few bytes as each gap needs.

Seven bits a byte, the lowest first; a byte above 127 is followed by another one (LEB128). Among
every hundredth entry most gaps need one byte, where a place of its own would need four.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Tensor = Any
_MOST_BYTES = 5  # 35 bits: tensors of 34 billion entries


def packed(places: Tensor) -> Tensor:
    """Return uint8 bytes of flat places, int64, that ascend from 0 or later."""
    import torch

    gaps = np.diff(places.numpy(), prepend=-1).astype(np.uint64)
    sizes = 1 + sum((gaps >> np.uint64(7 * i) > 0).astype(np.int64) for i in range(1, _MOST_BYTES))
    ends = np.cumsum(sizes, dtype=np.int64)
    out = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    for i in range(_MOST_BYTES):
        own = sizes > i
        low = (gaps[own] >> np.uint64(7 * i)) & np.uint64(127)
        goes_on = (sizes[own] > i + 1).astype(np.uint8) << 7
        out[ends[own] - sizes[own] + i] = low.astype(np.uint8) | goes_on
    return torch.from_numpy(out)


def unpacked(data: Tensor) -> Tensor:
    """Return the flat places int64 of `packed`.

    Raises:
        ValueError: If the bytes end within a gap, or a gap needs too many of them.
    """
    import torch

    found = data.numpy()
    if found.dtype != np.uint8 or found.ndim != 1 or (len(found) and found[-1] > 127):
        raise ValueError("places are uint8 bytes, and the last one ends a gap")
    ends = np.flatnonzero(found < 128)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    sizes = ends - starts + 1
    if len(sizes) and sizes.max() > _MOST_BYTES:
        raise ValueError(f"a gap of more than {_MOST_BYTES} bytes")
    shifts = 7 * (np.arange(len(found)) - np.repeat(starts, sizes))
    parts = (found & 127).astype(np.int64) << shifts
    gaps = np.add.reduceat(parts, starts) if len(starts) else parts
    return torch.from_numpy(np.cumsum(gaps) - 1)
