"""Questions that a model answers about rows, each asked once.

What every kind of function that asks a model does alike: find its model, fill in the rows, look
up what was answered before, keep what is answered now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.errors import FunctionFailureError
from fm_platform.hashing import canonical_json
from fm_platform.labeling.asking import AskingContext
from fm_platform.labeling.outcome import LabelingContext
from fm_platform.spec.models import BaseModelSpec
from fm_platform.store.answers import AnswerStore
from fm_platform.training.base_model import BaseModel, resolve_base_model

Floats = npt.NDArray[np.float32]
Row = dict[str, str]
Keep = Callable[[list[int], Floats], None]
Score = Callable[[Sequence[Row], Keep], None]
_KEY_BYTES = 16


def model_of(declared: Any, directory: Path) -> BaseModel:
    """Return the model that a labeling function declares, with its files checked and hashed.

    Raises:
        BaseModelError: If it is not there, not safetensors, or has another hash than declared.
    """
    return resolve_base_model(
        BaseModelSpec(
            location=declared.location, revision=declared.revision,
            weights_sha256=declared.weights_sha256,
        ),
        directory,
    )  # fmt: skip


def remembered(
    context: LabelingContext,
    book: str,
    rows: Sequence[Row],
    fields: Sequence[str],
    width: int,
    score: Score,
) -> Floats:
    """Return the answers of all rows: kept ones from the cache, the others from `score`.

    What a batch was answered is kept at once, so an interruption loses one batch.

    Args:
        context: Tells where answers are kept, and counts; one that does not keeps none.
        book: Hash of the question.
        rows: What is filled in.
        fields: Columns that make the key of a row.
        width: Numbers of an answer.
        score: (rows, keep) asks, and calls `keep(positions, float32[b, width])`.

    Returns:
        float32[n, width].
    """
    asking = context if isinstance(context, AskingContext) else AskingContext()
    keys = [row_key([row[name] for name in fields]) for row in rows]
    store = AnswerStore(asking.answers) if asking.answers is not None else None
    distinct = dict(zip(keys, rows, strict=True))
    known = store.get(book, sorted(distinct), width) if store is not None else {}
    missing = sorted(key for key in distinct if key not in known)
    asking.tally.asked += len(missing)
    asking.tally.from_cache += len(rows) - len(missing)

    def keep(positions: list[int], numbers: Floats) -> None:
        told = {missing[i]: numbers[j] for j, i in enumerate(positions)}
        known.update(told)
        if store is not None:
            store.put(book, told)
        if asking.on_progress is not None:
            asking.on_progress(len(known), len(distinct))

    if missing:
        score([distinct[key] for key in missing], keep)
    return np.array([known[key] for key in keys], np.float32).reshape(len(rows), width)


def row_key(values: Sequence[str]) -> bytes:
    """Return the hash, 16 bytes, of what a row fills into a question."""
    text = canonical_json(list(values))
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]


def rows_of(
    batch: pa.RecordBatch, fields: Sequence[str], name: str
) -> tuple[list[Row], npt.NDArray[np.int64]]:
    """Return what each row fills in, and its place; a row that lacks a part is not asked.

    Raises:
        FunctionFailureError: If the rows have no such column.
    """
    missing = sorted(set(fields) - set(batch.schema.names))
    if missing:
        raise FunctionFailureError(
            f"labeling function {name!r} fills in a column that the rows do not have",
            expected=", ".join(batch.schema.names),
            found=", ".join(missing),
        )
    columns = [batch.column(field).to_pylist() for field in fields]
    rows, where = [], []
    for i, values in enumerate(zip(*columns, strict=True)):
        if all(value is not None for value in values):
            rows.append(dict(zip(fields, map(str, values), strict=True)))
            where.append(i)
    return rows, np.array(where, np.int64)
