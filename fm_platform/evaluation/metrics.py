"""Metrics of a classifier that may abstain, and differences of two, with bootstrap intervals."""

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
from fm_platform.evaluation.counts import ALL as ALL
from fm_platform.evaluation.counts import SystemPredictions as SystemPredictions
from fm_platform.evaluation.counts import (
    calibration,
    f1_of,
    metrics_of,
    normalized,
    row_features,
    strata_of,
    with_all,
)
from fm_platform.spec.models import Evaluation

METRICS = ("f1_weighted", "f1_macro", "accuracy", "log_loss", "ece")
LOWER_IS_BETTER = frozenset({"log_loss", "ece"})


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
    names, strata = strata_of(gold, sources, n_classes)
    ordered = list(systems)
    features = [
        row_features(name, systems[name], gold, n_classes, evaluation.calibration_bins)
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
    names, points, resampled = _paired(ours, theirs, gold, sources, n_classes, evaluation)
    values = [metrics_of(sums, n_classes).get(metric) for sums in points]
    drawn = [metrics_of(sums, n_classes).get(metric) for sums in resampled]
    if values[0] is None or values[1] is None or drawn[0] is None or drawn[1] is None:
        raise EvaluationError(f"{metric} needs probabilities of both systems")
    return tuple(
        _difference(
            source, int(points[0][i, 0]), float(values[0][i]), float(values[1][i]),
            drawn[0][:, i] - drawn[1][:, i], evaluation.confidence_level,
        )
        for i, source in enumerate([ALL, *names])
    )  # fmt: skip


def class_differences(
    ours: SystemPredictions,
    theirs: SystemPredictions,
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    classes: Sequence[str],
    evaluation: Evaluation,
) -> tuple[Difference, ...]:
    """Return ours - theirs in the F1 of each class over all rows; `n` are its gold rows.

    The place is called `class NAME`, which no source can be.

    Raises:
        EvaluationError: As in `measure`.
    """
    k = len(classes)
    _, points, resampled = _paired(ours, theirs, gold, sources, k, evaluation)
    values = [f1_of(sums[0], k) for sums in points]
    drawn = [f1_of(sums[:, 0], k) for sums in resampled]
    support = points[0][0, 2 + 2 * k : 2 + 3 * k]
    return tuple(
        _difference(
            f"class {name}", int(support[i]), float(values[0][i]), float(values[1][i]),
            drawn[0][:, i] - drawn[1][:, i], evaluation.confidence_level,
        )
        for i, name in enumerate(classes)
    )  # fmt: skip


def class_f1(
    system: SystemPredictions, gold: npt.NDArray[np.integer], classes: Sequence[str]
) -> dict[str, float]:
    """Return the F1 of each class that occurs in gold."""
    k = len(classes)
    sums = row_features("system", system, gold, k, 1).sum(axis=0)
    f1, support = f1_of(sums, k), sums[2 + 2 * k : 2 + 3 * k]
    return {name: round(float(f1[i]), 6) for i, name in enumerate(classes) if support[i]}


def _paired(
    ours: SystemPredictions,
    theirs: SystemPredictions,
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    n_classes: int,
    evaluation: Evaluation,
) -> tuple[list[str], list[Floats], list[Floats]]:
    """Return names of sources and, of both systems, sums [1 + sources, d], plain and resampled."""
    names, strata = strata_of(gold, sources, n_classes)
    features = [
        row_features(name, system, gold, n_classes, evaluation.calibration_bins)
        for name, system in (("ours", ours), ("theirs", theirs))
    ]
    resampled = resampled_sums(
        features,
        strata,
        len(names),
        samples=evaluation.bootstrap_samples,
        seed=evaluation.seed,
    )
    points = [with_all(stratum_sums(matrix, strata, len(names))) for matrix in features]
    return names, points, [with_all(sums) for sums in resampled]


def _difference(
    place: str, n: int, ours: float, theirs: float, drawn: Floats, level: float
) -> Difference:
    low, high = percentile_interval(drawn, level)
    interval = Interval.rounded(ours - theirs, low, high)
    return Difference(place, n, round(ours, 6), round(theirs, 6), interval)


def reliability(
    predictions: SystemPredictions, gold: npt.NDArray[np.integer], bins: int
) -> list[dict[str, float | int]]:
    """Return per calibration bin that has rows: n, mean confidence, share correct.

    Raises:
        EvaluationError: If the system has no probabilities.
    """
    if predictions.probabilities is None:
        raise EvaluationError("a reliability curve needs probabilities")
    confidence, correct, index = calibration(
        normalized("system", predictions.probabilities, gold.shape[0]), gold, bins
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
    points = with_all(stratum_sums(matrix, strata, len(names)))
    values = metrics_of(points, n_classes)
    drawn = metrics_of(with_all(sums), n_classes)
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
