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

Floats = npt.NDArray[np.float64]


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
        rows = _features(context.row_embeddings, context.row_votes, len(classes), declared)
        exemplars = _features(
            np.asarray(context.exemplar_embeddings), context.exemplar_votes, len(classes), declared
        )
        row_sources = np.array(context.row_sources, dtype=object)
        sources = np.array(context.exemplar_sources, dtype=object)
        groups = sorted(set(context.row_sources)) if declared.per_source else [None]
        position = {identity: i for i, identity in enumerate(context.row_ids)}
        for group in groups:
            inside = np.ones(len(rows), bool) if group is None else row_sources == group
            chosen = np.ones(len(labels), bool) if group is None else sources == group
            if len(set(labels[chosen].tolist())) < 2:
                continue
            fit = _fit(exemplars[chosen], labels[chosen], declared.inverse_regularization)
            probabilities = _predict(fit, rows[inside], len(classes))
            votes[inside] = _votes(probabilities, declared.minimum_confidence)
            members = np.flatnonzero(chosen)
            for held_out, out in _left_out(members, context.exemplar_ids, position):
                rest = np.setdiff1d(members, held_out)
                if len(set(labels[rest].tolist())) < 2:
                    votes[out] = ABSTAIN
                    continue
                again = _fit(exemplars[rest], labels[rest], declared.inverse_regularization)
                own = _predict(again, rows[out], len(classes))
                votes[out] = _votes(own, declared.minimum_confidence)
        return Outcome(votes)

    definition = declared.model_dump(mode="json", exclude={"name"})
    return LabelingFunction(
        declared.name, "exemplars", definition, run, needs="exemplars",
        source="\n".join(f"{key}: {value}" for key, value in definition.items()),
    )  # fmt: skip


_FOLDS = 10


def _left_out(
    members: npt.NDArray[np.int64], ids: Sequence[str], position: dict[str, int]
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return (exemplars left out, their rows of this batch) for each of ten folds."""
    folds = []
    for fold in range(_FOLDS):
        held_out = members[fold::_FOLDS]
        out = [position[ids[i]] for i in held_out.tolist() if ids[i] in position]
        if out:
            folds.append((held_out, np.array(out, np.int64)))
    return folds


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


def _fit(x: Floats, y: npt.NDArray[np.int64], inverse_regularization: float) -> Any:
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
