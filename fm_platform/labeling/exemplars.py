"""Nearest exemplars: a soft-max classifier on a few labeled rows in a frozen embedding space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.labeling.functions import (
    ABSTAIN,
    LabelingContext,
    LabelingFunction,
    Outcome,
    Votes,
)
from fm_platform.labeling.kinds import KINDS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_FOLDS = 10
_ROWS = 16_384


@KINDS.register("exemplars")
def exemplar_function(declared: Any, directory: Path) -> LabelingFunction:
    """Return the function that an `exemplars` entry declares.

    It is fitted at every call on the exemplars of the context. A row that is an exemplar itself
    is judged by a classifier fitted without it, so its own label never comes back as a vote.
    """

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        labels = context.exemplar_labels
        if labels is None or len(labels) == 0 or context.row_embeddings is None:
            return Outcome(votes)
        exemplars = _features(
            np.asarray(context.exemplar_embeddings), context.exemplar_votes, len(classes), declared
        )
        row_sources = np.array(context.row_sources, dtype=object)
        sources = np.array(context.exemplar_sources, dtype=object)
        groups = sorted(set(context.row_sources)) if declared.per_source else [None]
        position = {identity: i for i, identity in enumerate(context.row_ids)}

        def judge(members: Ints, rows: Ints) -> None:
            """Let a classifier fitted on `members` vote on `rows`; one class alone abstains."""
            votes[rows] = ABSTAIN
            if len(set(labels[members].tolist())) < 2:
                return
            fit = _fit(exemplars[members], labels[members], declared.inverse_regularization)
            for start in range(0, len(rows), _ROWS):  # features of a whole day would not fit
                part = rows[start : start + _ROWS]
                told = _predict(fit, _features_of(context, part, classes, declared), len(classes))
                votes[part] = _votes(told, declared.minimum_confidence)

        for group in groups:
            everyone = group is None
            members = np.flatnonzero(everyone | (sources == group))
            judge(members, np.flatnonzero(everyone | (row_sources == group)))
            for held_out, rows in _left_out(members, context.exemplar_ids, position):
                judge(np.setdiff1d(members, held_out), rows)
        return Outcome(votes)

    definition = declared.model_dump(mode="json", exclude={"name"})
    return LabelingFunction(
        declared.name, "exemplars", definition, run,
        needs=("gold", "votes") if declared.votes_weight else ("gold",),
        source="\n".join(f"{key}: {value}" for key, value in definition.items()),
    )  # fmt: skip


def _left_out(
    members: Ints, ids: Sequence[str], position: dict[str, int]
) -> list[tuple[Ints, Ints]]:
    """Return (exemplars left out, their rows of this batch) for each of ten folds."""
    folds = []
    for fold in range(_FOLDS):
        held_out = members[fold::_FOLDS]
        out = [position[ids[i]] for i in held_out.tolist() if ids[i] in position]
        if out:
            folds.append((held_out, np.array(out, np.int64)))
    return folds


def _features_of(
    context: LabelingContext, rows: Ints, classes: Sequence[str], declared: Any
) -> Floats:
    votes = None if context.row_votes is None else context.row_votes[rows]
    return _features(np.asarray(context.row_embeddings)[rows], votes, len(classes), declared)


def _features(
    embeddings: npt.NDArray[np.float32], votes: Votes | None, classes: int, declared: Any
) -> Floats:
    """Return unit embeddings, and with `votes_weight` the one-hot votes of the other functions."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: Floats = embeddings.astype(np.float64) / np.maximum(norms, 1e-12)
    if declared.votes_weight == 0 or votes is None or votes.shape[1] == 0:
        return unit
    hot = [(votes == label).astype(np.float64) for label in range(classes)]
    both: Floats = np.concatenate(
        [unit, declared.votes_weight * np.concatenate(hot, axis=1)], axis=1
    )
    return both


def _fit(x: Floats, y: Ints, inverse_regularization: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=inverse_regularization, max_iter=500).fit(x, y)


def _predict(fit: Any, x: Floats, classes: int) -> Floats:
    probabilities = np.zeros((len(x), classes))
    probabilities[:, fit.classes_] = fit.predict_proba(x)
    return probabilities


def _votes(probabilities: Floats, minimum: float) -> Votes:
    votes: Votes = probabilities.argmax(axis=1).astype(np.int8)
    votes[probabilities.max(axis=1) < minimum] = ABSTAIN
    return votes
