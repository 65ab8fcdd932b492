"""What the other functions say of similar texts: their votes, learned from the frozen embedding.

A lexicon knows some words; the embedding knows which words are alike. A ridge regression from the
embedding to the vote shares of the plain functions says of a row what they would say of texts like
it. No label of people is read. Each row is judged by a fit without it (cross-fitting), so that the
answer is an opinion of its own and not an echo of the row's own votes.

The idea is label propagation (Zhu & Ghahramani 2002, "Learning from Labeled and Unlabeled Data
with Label Propagation"), in the linear form of ridge regression (Hoerl & Kennard 1970), whose cost
grows with the rows and not with their pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.labeling.functions import LabelingFunction
from fm_platform.labeling.kinds import KINDS
from fm_platform.labeling.outcome import LabelingContext, Outcome
from fm_platform.labeling.partial import ABSTAIN, Votes

Floats = npt.NDArray[np.float64]
_FOLDS = 5
_LEAST_ROWS = 100  # with less, neighbours are too far away
_BLOCK = 16_384  # rows looked at together: bounds the memory


@KINDS.register("propagated")
def propagated_function(declared: Any, directory: Path) -> LabelingFunction:
    """Return the function that a `propagated` entry declares.

    It is fitted at every call, on the rows of the day that have a vote of a plain function.
    """

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        if context.row_embeddings is None or context.row_votes is None:
            return Outcome(votes)
        shares = vote_shares(context.row_votes, len(classes))
        if int((shares.sum(axis=1) > 0).sum()) < _LEAST_ROWS:
            return Outcome(votes)
        lift = propagate(np.asarray(context.row_embeddings), shares, declared.regularization)
        sure = lift.max(axis=1) >= declared.minimum_lift
        votes[sure] = lift.argmax(axis=1)[sure].astype(np.int8)
        return Outcome(votes)

    definition = declared.model_dump(mode="json", exclude={"name"})
    return LabelingFunction(
        declared.name, "propagated", definition, run, needs=("votes",),
        source="\n".join(f"{key}: {value}" for key, value in definition.items()),
    )  # fmt: skip


def vote_shares(votes: Votes, n_classes: int) -> Floats:
    """Return the share of each class among the votes of a row, float64[n, k]; zeros without one."""
    counts = np.stack([(votes == label).sum(axis=1) for label in range(n_classes)], axis=1)
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def propagate(embeddings: npt.NDArray[np.float32], shares: Floats, regularization: float) -> Floats:
    """Return how much more of each class texts like a row get than the average text.

    Args:
        embeddings: float32[n, d]; only their direction counts.
        shares: float64[n, k], vote shares; rows of zeros teach nothing and are judged, too.
        regularization: Ridge penalty on unit vectors.

    Returns:
        float64[n, k] in standard deviations of each class over all rows; 0 for a class that never
        varies.
    """
    size = embeddings.shape[1] + 1
    grams, targets = np.zeros((_FOLDS, size, size)), np.zeros((_FOLDS, size, shares.shape[1]))
    taught = shares.sum(axis=1) > 0
    for rows, x in _blocks(embeddings):
        for fold in range(_FOLDS):
            mine = taught[rows] & (rows % _FOLDS == fold)
            grams[fold] += x[mine].T @ x[mine]
            targets[fold] += x[mine].T @ shares[rows[mine]]
    penalty = np.eye(size) * regularization
    penalty[-1, -1] = 1e-9  # the intercept is free
    fits = [
        np.linalg.solve(grams.sum(0) - grams[fold] + penalty, targets.sum(0) - targets[fold])
        for fold in range(_FOLDS)
    ]
    told = np.zeros(shares.shape)
    for rows, x in _blocks(embeddings):
        for fold in range(_FOLDS):
            mine = rows % _FOLDS == fold
            told[rows[mine]] = x[mine] @ fits[fold]
    spread = told.std(axis=0)
    lift: Floats = np.where(spread > 1e-9, (told - told.mean(axis=0)) / (spread + 1e-12), 0.0)
    return lift


def _blocks(
    embeddings: npt.NDArray[np.float32],
) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """Yield positions, and unit vectors with a last column of ones, some rows at a time."""
    for start in range(0, len(embeddings), _BLOCK):
        part = embeddings[start : start + _BLOCK].astype(np.float64)
        norms = np.linalg.norm(part, axis=1, keepdims=True)
        ones = np.ones((len(part), 1))
        x: Floats = np.concatenate([part / np.maximum(norms, 1e-12), ones], axis=1)
        yield np.arange(start, start + len(part)), x
