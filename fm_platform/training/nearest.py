"""A few examples as a labeling function: a row is of the class whose examples are most like it.

Likeness is the cosine between frozen embeddings of a model, so words that mean the same count
alike. Unlike `exemplars` it reads no gold row: the examples are declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.hashing import fingerprint
from fm_platform.labeling.functions import ABSTAIN, LabelingContext, LabelingFunction, Outcome
from fm_platform.labeling.kinds import KINDS
from fm_platform.labeling.partial import encode
from fm_platform.labeling.vocabulary import answers, members
from fm_platform.lineage.fingerprints import (
    MODEL_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)
from fm_platform.training.answered import Keep, Row, model_of, remembered, rows_of
from fm_platform.training.embed import embed

Floats = npt.NDArray[np.float64]
_AT_ONCE = 1024
_NEAREST = 3


@KINDS.register("nearest")
def nearest(declared: Any, directory: Path) -> LabelingFunction:
    """Return the function that a `nearest` entry declares; the model is loaded when it is asked.

    Raises:
        BaseModelError: If the model is not there, or not the declared one.
    """
    base = model_of(declared.model, directory)
    texts = [text for listed in declared.examples.values() for text in listed]
    sizes = [len(listed) for listed in declared.examples.values()]
    environment = environment_fingerprint(MODEL_PACKAGES, machine=True)
    book = fingerprint({
        "asks": "nearest", "model": base.content_hash, "examples": texts,
        "max_tokens": declared.max_tokens, "environment": environment,
        "code": code_fingerprint("fm_platform.training.embed"),
    })  # fmt: skip

    def vectors(listed: Sequence[str]) -> npt.NDArray[np.float32]:
        found = embed(base, listed, max_tokens=declared.max_tokens)
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        unit: npt.NDArray[np.float32] = found / np.maximum(norms, 1e-12)
        return unit

    def score(rows: Sequence[Row], keep: Keep) -> None:
        examples = vectors(texts)
        for start in range(0, len(rows), _AT_ONCE):
            part = [row[declared.column] for row in rows[start : start + _AT_ONCE]]
            keep(list(range(start, start + len(part))), vectors(part) @ examples.T)

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        rows, where = rows_of(batch, (declared.column,), declared.name)
        alike = remembered(context, book, rows, (declared.column,), len(texts), score)
        chosen, lead = leads(alike.astype(np.float64), sizes)
        sure = lead >= declared.minimum_lead
        index = answers(classes)
        codes, sets = encode([members(index, name) for name in declared.examples], len(classes))
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        votes[where[sure]] = codes[chosen[sure]]
        return Outcome(votes, sets=sets)

    definition = {
        **declared.model_dump(mode="json", exclude={"name", "model"}),
        "model": base.content_hash,
        "environment": environment,
    }
    return LabelingFunction(
        declared.name, "nearest", definition, run,
        source="\n".join(f"{k}: {' | '.join(v)}" for k, v in declared.examples.items()),
    )  # fmt: skip


def leads(alike: Floats, sizes: Sequence[int]) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the class whose nearest examples are most alike, and how far it leads.

    Args:
        alike: float64[n, e], cosine with each example, class by class.
        sizes: Examples of each of the k classes.

    Returns:
        int64[n], and float64[n] from 0 to 2.

    Example:
        >>> leads(np.array([[0.9, 0.1, 0.8]]), [2, 1])[0].tolist()
        [1]
    """
    edges = np.cumsum([0, *sizes])
    told = np.stack(
        [
            -np.sort(-alike[:, a:b], axis=1)[:, : min(_NEAREST, b - a)].mean(axis=1)
            for a, b in pairwise(edges.tolist())
        ],
        axis=1,
    )
    ranked = np.sort(told, axis=1)
    return told.argmax(axis=1), ranked[:, -1] - ranked[:, -2]
