"""Metrics of a classifier that may abstain, each with a bootstrap interval.

Labels are class indices; -1 is an abstention and counts as wrong, in every metric that looks at
labels. Log loss and calibration look at probabilities only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fm_platform.errors import EvaluationError
from fm_platform.evaluation.bootstrap import (
    Floats,
    Ints,
    percentile_interval,
    resampled_sums,
    stratum_sums,
)
from fm_platform.spec.models import Evaluation

ALL = "all"
"""Name of the row over all sources; no source may be called so."""

METRICS = ("f1_weighted", "f1_macro", "accuracy", "log_loss", "ece")
LOWER_IS_BETTER = frozenset({"log_loss", "ece"})

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


@dataclass(frozen=True)
class Interval:
    """A value and its bootstrap interval, rounded to six decimals."""

    value: float
    low: float
    high: float

    @classmethod
    def rounded(cls, value: float, low: float, high: float) -> Interval:
        """Return the interval with six decimals: more is noise of the summation order."""
        return cls(*(round(float(number), 6) + 0.0 for number in (value, low, high)))

    def to_json(self) -> dict[str, float]:
        """Return `{"value", "low", "high"}`."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Measured:
    """The metrics of one system on one source (or `all`)."""

    n: int
    values: Mapping[str, Interval | None]


@dataclass(frozen=True)
class Difference:
    """How much better `ours` is than `theirs` on one source (or `all`), same rows, same resamples.

    Attributes:
        source: Name, or `all`.
        n: Rows.
        ours: Metric of the first system.
        theirs: Metric of the second system.
        interval: ours - theirs with its paired bootstrap interval.
    """

    source: str
    n: int
    ours: float
    theirs: float
    interval: Interval

    def to_json(self) -> dict[str, float | int | str]:
        """Return one flat record."""
        return {
            "source": self.source,
            "n": self.n,
            "ours": self.ours,
            "theirs": self.theirs,
            "difference": self.interval.value,
            "low": self.interval.low,
            "high": self.interval.high,
        }


def measure(
    systems: Mapping[str, SystemPredictions],
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    n_classes: int,
    evaluation: Evaluation,
) -> dict[str, dict[str, Measured]]:
    """Return the metrics of every system on every source and on `all`, on the same resamples.

    Args:
        systems: Name to predictions, each for the n rows of `gold`.
        gold: int[n] in 0..n_classes-1.
        sources: n names; the strata of the bootstrap.
        n_classes: Number of classes.
        evaluation: Resamples, confidence level, bins, seed.

    Raises:
        EvaluationError: If there are no rows or predictions do not fit them.
    """
    names, strata = _strata(gold, sources, n_classes)
    ordered = list(systems)
    features = [
        _features(name, systems[name], gold, n_classes, evaluation.calibration_bins)
        for name in ordered
    ]
    resampled = resampled_sums(
        features,
        strata,
        len(names),
        samples=evaluation.bootstrap_samples,
        seed=evaluation.seed,
    )
    return {
        name: _measured(names, strata, matrix, sums, n_classes, evaluation.confidence_level)
        for name, matrix, sums in zip(ordered, features, resampled, strict=True)
    }


def differences(
    ours: SystemPredictions,
    theirs: SystemPredictions,
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    n_classes: int,
    evaluation: Evaluation,
    metric: str = "f1_weighted",
) -> tuple[Difference, ...]:
    """Return ours - theirs in `metric`, for `all` first, then per source.

    Raises:
        EvaluationError: As in `measure`, or if the metric is unknown or one of the systems has
            no probabilities for it.
    """
    if metric not in METRICS:
        raise EvaluationError("there is no such metric", expected=", ".join(METRICS), found=metric)
    names, strata = _strata(gold, sources, n_classes)
    features = [
        _features(name, system, gold, n_classes, evaluation.calibration_bins)
        for name, system in (("ours", ours), ("theirs", theirs))
    ]
    resampled = resampled_sums(
        features,
        strata,
        len(names),
        samples=evaluation.bootstrap_samples,
        seed=evaluation.seed,
    )
    points = [_with_all(stratum_sums(matrix, strata, len(names))) for matrix in features]
    values = [_metrics(sums, n_classes).get(metric) for sums in points]
    drawn = [_metrics(_with_all(sums), n_classes).get(metric) for sums in resampled]
    if values[0] is None or values[1] is None or drawn[0] is None or drawn[1] is None:
        raise EvaluationError(f"{metric} needs probabilities of both systems")
    found = []
    for index, source in enumerate([ALL, *names]):
        low, high = percentile_interval(
            drawn[0][:, index] - drawn[1][:, index], evaluation.confidence_level
        )
        a, b = float(values[0][index]), float(values[1][index])
        found.append(
            Difference(
                source,
                int(points[0][index, 0]),
                round(a, 6),
                round(b, 6),
                Interval.rounded(a - b, low, high),
            )
        )
    return tuple(found)


def reliability(
    predictions: SystemPredictions, gold: npt.NDArray[np.integer], bins: int
) -> list[dict[str, float | int]]:
    """Return per calibration bin that has rows: n, mean confidence, share correct.

    Raises:
        EvaluationError: If the system has no probabilities.
    """
    if predictions.probabilities is None:
        raise EvaluationError("a reliability curve needs probabilities")
    confidence, correct, index = _calibration(
        _normalized("system", predictions.probabilities, gold.shape[0]), gold, bins
    )
    n = np.bincount(index, minlength=bins)
    mean = np.bincount(index, weights=confidence, minlength=bins)
    share = np.bincount(index, weights=correct, minlength=bins)
    return [
        {
            "n": int(n[i]),
            "confidence": round(float(mean[i] / n[i]), 6),
            "correct": round(float(share[i] / n[i]), 6),
        }
        for i in range(bins)
        if n[i]
    ]


def _measured(
    names: Sequence[str], strata: Ints, matrix: Floats, sums: Floats, n_classes: int, level: float
) -> dict[str, Measured]:
    points = _with_all(stratum_sums(matrix, strata, len(names)))
    values = _metrics(points, n_classes)
    drawn = _metrics(_with_all(sums), n_classes)
    measured: dict[str, Measured] = {}
    for index, source in enumerate([ALL, *names]):
        n = int(points[index, 0])
        if n == 0:
            continue
        row: dict[str, Interval | None] = dict.fromkeys(METRICS)
        for metric, value in values.items():
            point = float(value[index])
            low, high = percentile_interval(drawn[metric][:, index], level)
            if metric == "ece":
                # Resampling adds noise to every bin and so biases this metric upwards: the
                # interval is widened to hold the value itself.
                low, high = min(low, point), max(high, point)
            row[metric] = Interval.rounded(point, low, high)
        measured[source] = Measured(n, row)
    return measured


def _strata(
    gold: npt.NDArray[np.integer], sources: Sequence[str], n_classes: int
) -> tuple[list[str], Ints]:
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


def _features(
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
        probabilities = _normalized(name, system.probabilities, n)
        if probabilities.shape[1] != n_classes:
            raise EvaluationError(
                f"probabilities of {name} do not match the taxonomy",
                expected=n_classes,
                found=probabilities.shape[1],
            )
        start = 2 + 3 * n_classes
        given = np.clip(probabilities[rows, gold], _SMALLEST_PROBABILITY, 1.0)
        matrix[:, start] = -np.log(given)
        confidence, correct, index = _calibration(probabilities, gold, bins)
        matrix[rows, start + 1 + index] = confidence - correct
    if system.measured is not None:
        matrix *= np.asarray(system.measured, dtype=bool)[:, None]
    return matrix


def _normalized(name: str, probabilities: npt.NDArray[np.floating], n: int) -> Floats:
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


def _calibration(
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


def _with_all(sums: Floats) -> Floats:
    """Return sums [..., 1 + strata, d] with the sum over strata in front."""
    return np.concatenate([sums.sum(axis=-2, keepdims=True), sums], axis=-2)


def _metrics(sums: Floats, k: int) -> dict[str, Floats]:
    """Return each metric for sums float64[..., d]; 0 rows give 0.

    F1 of a class that is neither in gold nor answered is left out of the macro mean; a class
    with no right answer has F1 0.
    """
    n = np.maximum(sums[..., 0], 1.0)
    right = sums[..., 2 : 2 + k]
    predicted = sums[..., 2 + k : 2 + 2 * k]
    support = sums[..., 2 + 2 * k : 2 + 3 * k]
    occurring = predicted + support
    f1 = 2.0 * right / np.maximum(occurring, 1.0)
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
