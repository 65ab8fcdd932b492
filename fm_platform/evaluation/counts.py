"""What rows contribute to the metrics: sums over rows, from which every metric is computed.

Labels are class indices; -1 is an abstention and counts as wrong, in every metric that looks at
labels. Log loss and calibration look at probabilities only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fm_platform.errors import EvaluationError
from fm_platform.evaluation.bootstrap import Floats, Ints

ALL = "all"
"""Name of the row over all sources; no source may be called so."""

_SMALLEST_PROBABILITY = 1e-7
"""Resolution of float32: what a soft-max in float32 can tell from 0."""


@dataclass(frozen=True)
class SystemPredictions:
    """The answers of one system on the evaluated rows.

    Attributes:
        labels: int[n], class indices, -1 for no answer.
        probabilities: float[n, k] in 0..1, rows sum to 1; None where the system gives none.
        measured: bool[n], rows on which the system can be judged at all (e.g. those that have
            human raters); None means all.
    """

    labels: npt.NDArray[np.integer]
    probabilities: npt.NDArray[np.floating] | None = None
    measured: npt.NDArray[np.bool_] | None = None


def strata_of(
    gold: npt.NDArray[np.integer], sources: Sequence[str], n_classes: int
) -> tuple[list[str], Ints]:
    """Return the sorted names of sources and, for each row, which it is of, int64[n].

    Raises:
        EvaluationError: If there are no rows, or gold or sources do not fit.
    """
    n = gold.shape[0]
    if n == 0:
        raise EvaluationError(
            "there are no gold rows to evaluate on",
            next_step="declare a gold column, or wait for days that have test rows",
        )
    if len(sources) != n:
        raise EvaluationError("sources do not match gold", expected=n, found=len(sources))
    if gold.min() < 0 or gold.max() >= n_classes:
        raise EvaluationError(
            "gold holds a label outside the taxonomy",
            expected=f"0..{n_classes - 1}",
            found=f"{gold.min()}..{gold.max()}",
        )
    names, strata = np.unique(np.asarray(sources, dtype=object).astype(str), return_inverse=True)
    if ALL in names:
        raise EvaluationError(f"a source may not be called {ALL!r}")
    return [str(name) for name in names], strata.astype(np.int64)


def row_features(
    name: str,
    system: SystemPredictions,
    gold: npt.NDArray[np.integer],
    n_classes: int,
    bins: int,
) -> Floats:
    """Return float64[n, d]: count, right, then per class right, predicted and gold one-hots.

    With probabilities follow the log loss and, per calibration bin, confidence - correct.
    """
    n = gold.shape[0]
    labels = np.asarray(system.labels)
    if labels.shape != (n,):
        raise EvaluationError(f"labels of {name} do not match gold", expected=n, found=labels.shape)
    if n and (labels.min() < -1 or labels.max() >= n_classes):
        raise EvaluationError(
            f"{name} answers outside the taxonomy",
            expected=f"-1..{n_classes - 1}",
            found=f"{labels.min()}..{labels.max()}",
        )
    rows = np.arange(n)
    right = labels == gold
    answered = labels >= 0
    width = 2 + 3 * n_classes + (0 if system.probabilities is None else 1 + bins)
    matrix = np.zeros((n, width))
    matrix[:, 0] = 1.0
    matrix[:, 1] = right
    matrix[rows[right], 2 + gold[right]] = 1.0
    matrix[rows[answered], 2 + n_classes + labels[answered]] = 1.0
    matrix[rows, 2 + 2 * n_classes + gold] = 1.0
    if system.probabilities is not None:
        probabilities = normalized(name, system.probabilities, n)
        if probabilities.shape[1] != n_classes:
            raise EvaluationError(
                f"probabilities of {name} do not match the taxonomy",
                expected=n_classes,
                found=probabilities.shape[1],
            )
        start = 2 + 3 * n_classes
        given = np.clip(probabilities[rows, gold], _SMALLEST_PROBABILITY, 1.0)
        matrix[:, start] = -np.log(given)
        confidence, correct, index = calibration(probabilities, gold, bins)
        matrix[rows, start + 1 + index] = confidence - correct
    if system.measured is not None:
        matrix *= np.asarray(system.measured, dtype=bool)[:, None]
    return matrix


def normalized(name: str, probabilities: npt.NDArray[np.floating], n: int) -> Floats:
    """Return probabilities float64[n, k] whose rows sum to 1.

    Raises:
        EvaluationError: If they have another shape, are negative, not finite or far from 1.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != n:
        raise EvaluationError(
            f"probabilities of {name} do not match gold", expected=f"[{n}, k]", found=values.shape
        )
    totals = values.sum(axis=1)
    if not np.isfinite(values).all() or values.min(initial=0.0) < 0.0:
        raise EvaluationError(f"{name} gives probabilities that are negative or not finite")
    if np.abs(totals - 1.0).max(initial=0.0) > 1e-2:
        raise EvaluationError(
            f"probabilities of {name} do not sum to 1", found=float(totals.min()), expected=1.0
        )
    return np.asarray(values / totals[:, None], dtype=np.float64)


def calibration(
    probabilities: Floats, gold: npt.NDArray[np.integer], bins: int
) -> tuple[Floats, Floats, Ints]:
    """Return confidence, correctness and bin of the most probable class of each row.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), equation 3; bins of
    equal width, closed above.
    """
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == gold).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return confidence, correct, index


def with_all(sums: Floats) -> Floats:
    """Return sums [..., 1 + strata, d] with the sum over strata in front."""
    return np.concatenate([sums.sum(axis=-2, keepdims=True), sums], axis=-2)


def metrics_of(sums: Floats, k: int) -> dict[str, Floats]:
    """Return each metric for sums float64[..., d]; 0 rows give 0.

    F1 of a class that is neither in gold nor answered is left out of the macro mean; a class
    with no right answer has F1 0.
    """
    n = np.maximum(sums[..., 0], 1.0)
    support = sums[..., 2 + 2 * k : 2 + 3 * k]
    occurring = sums[..., 2 + k : 2 + 2 * k] + support
    f1 = f1_of(sums, k)
    present = np.maximum((occurring > 0).sum(axis=-1), 1)
    values = {
        "f1_weighted": (f1 * support).sum(axis=-1) / n,
        "f1_macro": f1.sum(axis=-1) / present,
        "accuracy": sums[..., 1] / n,
    }
    start = 2 + 3 * k
    if sums.shape[-1] > start:
        values["log_loss"] = sums[..., start] / n
        values["ece"] = np.abs(sums[..., start + 1 :]).sum(axis=-1) / n
    return values


def f1_of(sums: Floats, k: int) -> Floats:
    """Return float64[..., k]: the F1 of each class; 0 where it neither occurs nor is answered."""
    right = sums[..., 2 : 2 + k]
    occurring = sums[..., 2 + k : 2 + 2 * k] + sums[..., 2 + 2 * k : 2 + 3 * k]
    return np.asarray(2.0 * right / np.maximum(occurring, 1.0), np.float64)
