"""Tokens and batches: length-bucketed, a budget of padded tokens each, the same for a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_BUCKET_ROWS = 1024


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows.

    Attributes:
        row_ids: n ids.
        tokens: n lists of token ids, special tokens included.
        targets: float32[n, k], class probabilities.
        sources: n source names.
    """

    row_ids: list[str]
    tokens: list[list[int]]
    targets: npt.NDArray[np.float32]
    sources: list[str]

    def __len__(self) -> int:
        return len(self.row_ids)


def encode(tokenizer: Any, rows: pa.Table, max_tokens: int) -> Encoded:
    """Tokenise cleaned rows; longer texts are cut at `max_tokens`."""
    width = len(rows["probabilities"][0]) if rows.num_rows else 0
    flat = rows["probabilities"].combine_chunks().flatten()
    targets = np.asarray(flat, np.float32).reshape(rows.num_rows, width)
    return Encoded(
        rows["row_id"].to_pylist(),
        tokenize(tokenizer, rows["text"].to_pylist(), max_tokens),
        targets,
        rows["source"].to_pylist(),
    )


def tokenize(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Return token ids of each text."""
    if not texts:
        return []
    found: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=max_tokens)[
        "input_ids"
    ]
    return found


def batch_plan(
    lengths: Sequence[int], batch_tokens: int, generator: np.random.Generator
) -> list[list[int]]:
    """Return batches of positions for one epoch.

    Rows are shuffled, sorted by length within buckets of 1,024, cut into batches of at most
    `batch_tokens` padded tokens, and the batches shuffled.
    """
    order = generator.permutation(len(lengths)).tolist()
    batches: list[list[int]] = []
    for start in range(0, len(order), _BUCKET_ROWS):
        bucket = sorted(order[start : start + _BUCKET_ROWS], key=lambda i: (lengths[i], i))
        batches += token_batches(bucket, lengths, batch_tokens)
    return [batches[i] for i in generator.permutation(len(batches)).tolist()]


def token_batches(
    order: Sequence[int], lengths: Sequence[int], batch_tokens: int
) -> list[list[int]]:
    """Cut positions that are sorted by length into batches of `batch_tokens` padded tokens."""
    batches: list[list[int]] = []
    current: list[int] = []
    for position in order:
        if current and (len(current) + 1) * lengths[position] > batch_tokens:
            batches.append(current)
            current = []
        current.append(position)
    if current:
        batches.append(current)
    return batches


def padded(tokens: Sequence[Sequence[int]], pad_id: int) -> tuple[Any, Any]:
    """Return (input ids, attention mask), int64[b, longest]."""
    import torch

    width = max(len(row) for row in tokens)
    ids = torch.full((len(tokens), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(tokens), width), dtype=torch.long)
    for i, row in enumerate(tokens):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = 1
    return ids, mask


def balanced_sample(
    sources: Sequence[str], per_source: int, generator: np.random.Generator
) -> list[int]:
    """Return at most `per_source` positions of each source, sorted."""
    names = np.array(sources, dtype=object)
    chosen: list[int] = []
    for name in sorted(set(sources)):
        members = np.flatnonzero(names == name)
        chosen += generator.permutation(members)[:per_source].tolist()
    return sorted(chosen)


def take(encoded: Encoded, positions: Sequence[int]) -> Encoded:
    """Return some rows."""
    return Encoded(
        [encoded.row_ids[i] for i in positions],
        [encoded.tokens[i] for i in positions],
        encoded.targets[list(positions)],
        [encoded.sources[i] for i in positions],
    )
