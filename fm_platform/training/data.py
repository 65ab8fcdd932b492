"""Tokens and batches: length-bucketed, a budget of padded tokens each, the same for a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.errors import TrainingError
from fm_platform.losses import Cells

_BUCKET_ROWS = 1024
_NO_LIMIT = 2**31  # of models and tokenizers that name none
# Of these the position of a text's first token comes behind that of padding: they read fewer
# tokens than they have positions.
_COUNTS_FROM_PADDING = frozenset(
    {"camembert", "data2vec-text", "ibert", "lilt", "longformer", "luke", "mpnet", "roberta",
     "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)  # fmt: skip


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows.

    Attributes:
        row_ids: n ids.
        tokens: n lists of token ids, special tokens included.
        targets: float32[n, k], class probabilities.
        sources: n source names.
        cells: Which classes a row's label does not tell apart; None where all are.
    """

    row_ids: list[str]
    tokens: list[list[int]]
    targets: npt.NDArray[np.float32]
    sources: list[str]
    cells: Cells | None = None

    def __len__(self) -> int:
        return len(self.row_ids)


def encode(tokenizer: Any, rows: pa.Table, max_tokens: int, classes: Sequence[str]) -> Encoded:
    """Tokenise cleaned rows; longer texts are cut at `max_tokens`.

    Args:
        tokenizer: Of the base model.
        rows: Columns row_id, text, source, probabilities list<float32>[k] and, where labels of
            former classes are among them, cells list<int8>[k], null where all are told apart.
        max_tokens: Tokens of a text at most, special tokens included.
        classes: k class names, by index.

    Raises:
        TrainingError: If targets are no probabilities of these classes.
    """
    return Encoded(
        rows["row_id"].to_pylist(),
        tokenize(tokenizer, rows["text"].to_pylist(), max_tokens),
        _targets(rows, classes),
        rows["source"].to_pylist(),
        _cells(rows, len(classes)),
    )


def _cells(rows: pa.Table, k: int) -> Cells | None:
    if "cells" not in rows.column_names or rows["cells"].null_count == rows.num_rows:
        return None
    cells = np.tile(np.arange(k, dtype=np.int8), (rows.num_rows, 1))
    column = rows["cells"].combine_chunks()
    cells[np.asarray(column.is_valid())] = np.asarray(column.drop_null().flatten()).reshape(-1, k)
    return cells


def _targets(rows: pa.Table, classes: Sequence[str]) -> npt.NDArray[np.float32]:
    column = rows["probabilities"].combine_chunks()
    widths = np.asarray(column.value_lengths().fill_null(0), np.int64)
    wrong = np.flatnonzero(widths != len(classes))
    if wrong.size:
        raise TrainingError(
            "the targets belong to another list of classes",
            where=f"row {rows['row_id'][int(wrong[0])].as_py()}",
            expected=f"{len(classes)} probabilities: {', '.join(classes)}",
            found=f"{widths[wrong[0]]} probabilities",
            next_step="build weak_labels and cleaned again with the present taxonomy",
        )
    flat = np.asarray(column.flatten().fill_null(np.nan), np.float32)
    targets = flat.reshape(rows.num_rows, len(classes))
    wrong = np.flatnonzero(~((targets >= 0).all(axis=1) & (abs(targets.sum(axis=1) - 1) < 1e-3)))
    if wrong.size:
        raise TrainingError(
            "targets that are no probabilities",
            where=f"row {rows['row_id'][int(wrong[0])].as_py()}, {wrong.size} rows in all",
            expected="values of at least 0 that sum to 1",
            found=targets[wrong[0]].tolist(),
        )
    return targets


def tokenize(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Return token ids of each text."""
    if not texts:
        return []
    found: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=max_tokens)[
        "input_ids"
    ]
    return found


def readable_tokens(config: Any, tokenizer: Any) -> int:
    """Return how many tokens of one text a model reads.

    Args:
        config: The model's configuration, or its config.json as a mapping.
        tokenizer: The model's.
    """
    settings = config if isinstance(config, Mapping) else config.to_dict()
    limits = (_positions(settings), tokenizer.model_max_length, _NO_LIMIT)
    return min(int(limit) for limit in limits if limit)


def _positions(config: Mapping[str, Any]) -> int | None:
    """Return for how many tokens a model has positions; None where it does not say."""
    found = config.get("max_position_embeddings") or config.get("n_positions")
    if not isinstance(found, int):
        return None
    if config.get("model_type") in _COUNTS_FROM_PADDING:
        padding = config.get("pad_token_id")
        found -= (1 if padding is None else int(padding)) + 1
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


def by_length(lengths: Sequence[int]) -> list[int]:
    """Return positions from short to long; equal lengths keep their order."""
    return sorted(range(len(lengths)), key=lambda i: (lengths[i], i))


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


def cells_of(rows: Encoded, positions: Sequence[int]) -> Any | None:
    """Return the cells of some rows as int64[b, k]; None where all classes are told apart."""
    import torch

    if rows.cells is None:
        return None
    cells = torch.from_numpy(rows.cells[list(positions)].astype(np.int64))
    told_apart = bool((cells == torch.arange(cells.shape[1])).all())
    return None if told_apart else cells


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
        None if encoded.cells is None else encoded.cells[list(positions)],
    )
