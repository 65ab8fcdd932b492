"""What the live model answered on a sample, and how often such answers are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.monitoring.measure import project

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answered:
    """The rows of a sample as the model answered them.

    Attributes:
        sure: Largest probability, float64[n].
        right: 1 and 0 where people labeled, NaN elsewhere, float64[n].
        weak: Probability that the model gives the weak label, NaN where there is none.
        agrees: 1 where the model gives the weak label, -1 where another, 0 where there is none.
        labeled: 1 and 0 for weak labels that are right by people and not, NaN where none labeled;
            a row without a weak label has no right one.
        vectors: Projected embeddings with the probabilities beside them, float64[n, d].
        sources: Source of each row.
    """

    sure: Floats
    right: Floats
    weak: Floats
    agrees: Floats
    labeled: Floats
    vectors: Floats
    sources: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.sure)


def answered(sample: pa.Table | None, classes: Sequence[str]) -> Answered | None:
    """Return the model's answers on a sample, or None where it holds none.

    Args:
        sample: Columns `source`, `champion` list<float> and of these what there is: `gold`,
            `label`, `embedding` list<float32>.
        classes: Names of the classes.
    """
    if sample is None or "champion" not in sample.column_names or sample.num_rows == 0:
        return None
    n = sample.num_rows
    told = np.asarray(sample["champion"].combine_chunks().flatten(), np.float64).reshape(n, -1)
    index = {name: i for i, name in enumerate(classes)}

    def spots(column: str) -> npt.NDArray[np.int64]:
        if column not in sample.column_names:
            return np.full(n, -1)
        return np.array([index.get(value, -1) for value in sample[column].to_pylist()], np.int64)

    gold, label = spots("gold"), spots("label")
    right = np.where(gold >= 0, (told.argmax(axis=1) == gold).astype(float), np.nan)
    labeled = np.where(gold >= 0, (label == gold).astype(float), np.nan)
    weak = np.where(label >= 0, told[np.arange(n), np.maximum(label, 0)], np.nan)
    agrees = np.where(label >= 0, np.where(told.argmax(axis=1) == label, 1.0, -1.0), 0.0)
    parts = [np.log(np.clip(told, 1e-4, 1.0))]
    if "embedding" in sample.column_names:
        flat = np.asarray(sample["embedding"].combine_chunks().flatten(), np.float32)
        parts.append(project(flat.reshape(n, -1)).astype(np.float64))
    sources = np.array(sample["source"].to_pylist(), object)
    return Answered(
        told.max(axis=1), right, weak, agrees, labeled, np.concatenate(parts, axis=1), sources
    )


def weights(rows: Answered, shares: Mapping[str, float] | None) -> Floats:
    """Return the weight of each row, sum 1: sources have such shares; None: as they are drawn."""
    names, spots, counts = np.unique(
        rows.sources.astype(str), return_inverse=True, return_counts=True
    )
    if shares is None:
        return np.full(len(rows), 1 / max(len(rows), 1))
    wanted = np.array([float(shares.get(name, 0.0)) for name in names.tolist()])
    found = np.asarray((wanted / counts)[spots], np.float64)
    total = found.sum()
    return found / total if total > 0 else np.full(len(rows), 1 / max(len(rows), 1))


def signs(rows: Answered) -> Floats:
    """Return what tells that an answer is right: sureness as a logit, agreement, float64[n, 2]."""
    return np.column_stack([logit(rows.sure), rows.agrees])


def calibrated(known: Floats, right: Floats, asked: Floats) -> Floats:
    """Return how often answers with such signs are right: logistic regression, Newton's steps.

    A little ridge draws it to the model's own sureness (slope 1), and agreement to no weight.

    Args:
        known: Signs of answers that people judged, float64[n, 2].
        right: 1 and 0, float64[n].
        asked: Signs of other answers, float64[m, 2].
    """
    x, z = (np.column_stack([part, np.ones(len(part))]) for part in (known, asked))
    usual, ridge = np.array([1.0, 0.0, 0.0]), np.diag([1.0, 1.0, 1e-3])
    line = usual.copy()
    for _ in range(8):
        p = _logistic(x @ line)
        w = np.maximum(p * (1 - p), 1e-6)
        gradient = x.T @ (right - p) - ridge @ (line - usual)
        line = line + np.linalg.solve((x * w[:, None]).T @ x + ridge, gradient)
    return _logistic(z @ line)


def _logistic(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30.0, 30.0))), np.float64)


def logit(share: Floats) -> Floats:
    """Return shares as log odds, kept finite."""
    kept = np.clip(share, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(kept / (1 - kept)), np.float64)
