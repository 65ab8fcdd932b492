"""What a shift costs the live model, without gold, and with it where there is some.

Two estimates are made of the share of right answers on the rows of a day:

* confidence: how sure the model is, calibrated on the reference, is how often it is right
  (average thresholded confidence's simplest relative; Guillory et al. 2021, "Predicting with
  confidence on unseen distributions", arXiv 2107.03315);
* importance weighting: right and wrong answers of the reference, each weighted by how much more
  often rows like it come today; the weight is the odds of a classifier that tells the two samples
  apart by their embeddings (Shimodaira 2000; Sugiyama et al. 2007, JMLR 8).

Each has an interval by a seeded bootstrap over the rows of both samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.monitoring.measure import project
from fm_platform.monitoring.records import Estimate

Floats = npt.NDArray[np.float64]

BOOTSTRAPS = 200
LEAST_GOLD = 30
"""Gold rows of a sample below which nothing is measured on them."""
_MAX_WEIGHT = 20.0
_LEVEL = 0.9
_Z = 1.645
"""Half the width of a 90 % interval, in standard deviations."""
_MODEL_ERROR = 4.0
"""Points by which an estimate without gold may be wrong however many rows there are."""


@dataclass(frozen=True)
class Answered:
    """The rows of a sample as the model answered them.

    Attributes:
        sure: Largest probability, float64[n].
        right: 1 and 0 where people labeled, NaN elsewhere, float64[n].
        weak: Probability that the model gives the weak label, NaN where there is none.
        vectors: Projected embeddings with the probabilities beside them, float64[n, d].
        sources: Source of each row.
    """

    sure: Floats
    right: Floats
    weak: Floats
    vectors: Floats
    sources: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.sure)

    def take(self, rows: npt.NDArray[Any]) -> Answered:
        """Return some of the rows."""
        return Answered(
            self.sure[rows], self.right[rows], self.weak[rows], self.vectors[rows],
            self.sources[rows],
        )  # fmt: skip


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
    weak = np.where(label >= 0, told[np.arange(n), np.maximum(label, 0)], np.nan)
    parts = [np.log(np.clip(told, 1e-4, 1.0))]
    if "embedding" in sample.column_names:
        flat = np.asarray(sample["embedding"].combine_chunks().flatten(), np.float32)
        parts.append(project(flat.reshape(n, -1)).astype(np.float64))
    sources = np.array(sample["source"].to_pylist(), object)
    return Answered(told.max(axis=1), right, weak, np.concatenate(parts, axis=1), sources)


@dataclass(frozen=True)
class Scores:
    """Estimated changes in points: of the model's answers, and of the weak labels."""

    confidence: Estimate | None
    weighting: Estimate | None
    gold: Estimate | None
    labels: Estimate | None

    @property
    def best(self) -> Estimate | None:
        """Gold and the estimate without it, each by how sure it is; or what there is."""
        guess, gold = self.without_gold, self.gold
        if guess is None or gold is None:
            return gold or guess
        widths = [max(one.high - one.low, 0.1) / (2 * _Z) for one in (gold, guess)]
        precision = [1 / widths[0] ** 2, 1 / (widths[1] ** 2 + _MODEL_ERROR**2)]
        total = sum(precision)
        points = (precision[0] * gold.points + precision[1] * guess.points) / total
        reach = _Z / total**0.5
        return Estimate(
            round(points, 3), round(points - reach, 3), round(points + reach, 3),
            "gold and confidence", gold.rows,
        )  # fmt: skip

    @property
    def without_gold(self) -> Estimate | None:
        """The mean of the two estimates, with the wider interval."""
        both = [one for one in (self.confidence, self.weighting) if one is not None]
        if not both:
            return None
        points = float(np.mean([one.points for one in both]))
        return Estimate(
            points, min(points, *(one.low for one in both)), max(points, *(o.high for o in both)),
            " and ".join(one.method for one in both), both[0].rows,
        )  # fmt: skip


def estimate(
    today: Answered, before: Answered, *, expected: dict[str, float] | None = None, seed: int = 0
) -> Scores:
    """Return the estimated changes from the reference to the day.

    Args:
        today: Sample of the day, as many rows of each source as the day has shares, or weighted
            by `weights_of` before.
        before: Sample of the reference.
        expected: Source -> share of rows that was usual; None: the shares of `before`.
        seed: Of the bootstrap.
    """
    generator = np.random.default_rng(seed)
    known = np.flatnonzero(~np.isnan(before.right))
    usual = _usual(before, expected)
    confidence = weighting = None
    if len(known) >= LEAST_GOLD:
        odds = _odds(today, before)
        drawn = [
            _both(today, before, odds, usual, rows, others)
            for rows, others in _resamples(generator, len(today), known)
        ]
        point = _both(today, before, odds, usual, np.arange(len(today)), known)
        confidence, weighting = (
            _interval(point[i], [one[i] for one in drawn], name, len(today))
            for i, name in enumerate(("confidence", "importance weighting"))
        )
    return Scores(
        confidence, weighting, _measured(today, before, usual, generator),
        _labels(today, before, usual, generator),
    )  # fmt: skip


def _usual(before: Answered, expected: dict[str, float] | None) -> Floats:
    """Return the weight of each reference row, so that sources have their usual shares."""
    shares = expected or {}
    counts = {name: int((before.sources == name).sum()) for name in set(before.sources.tolist())}
    weights = np.ones(len(before))
    for name, count in counts.items():
        share = shares.get(name, 0.0 if shares else count / len(before))
        weights[before.sources == name] = share / count
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(before), 1 / max(len(before), 1))


def _odds(today: Answered, before: Answered) -> Floats:
    """Return how much more often rows like each of the reference come today, float64[n]."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows = np.concatenate([before.vectors, today.vectors])
    side = np.repeat([0, 1], [len(before), len(today)])
    scaled = StandardScaler().fit_transform(rows)
    model = LogisticRegression(C=0.05, max_iter=300, class_weight="balanced").fit(scaled, side)
    chance = model.predict_proba(scaled[: len(before)])[:, 1]
    odds = np.clip(chance / np.maximum(1 - chance, 1e-6), 1 / _MAX_WEIGHT, _MAX_WEIGHT)
    return np.asarray(odds, np.float64)


def _both(
    today: Answered, before: Answered, odds: Floats, usual: Floats,
    rows: npt.NDArray[Any], known: npt.NDArray[Any],
) -> tuple[float, float]:  # fmt: skip
    """Return both estimates of the change, on resampled rows."""
    right, sure = before.right[known], before.sure[known]
    level = float(np.average(right, weights=np.maximum(usual[known], 1e-12)))
    told = calibrated(sure, right, today.sure[rows])
    same = calibrated(sure, right, sure)
    # the calibration's own mean on the reference is taken off: only the change counts
    by_confidence = float(told.mean()) - float(np.average(same, weights=usual[known] + 1e-12))
    weights = odds[known]
    by_weight = float(np.average(right, weights=weights)) - level
    return 100 * by_confidence, 100 * by_weight


def calibrated(sure: Floats, right: Floats, asked: Floats) -> Floats:
    """Return how often answers so sure are right: a line in the logit, by two Newton steps each.

    Platt's scaling with a little ridge; a few steps are enough for two parameters.
    """
    x, z = _logit(sure), _logit(asked)
    slope, offset = 1.0, 0.0
    for _ in range(8):
        p = _logistic(slope * x + offset)
        w = np.maximum(p * (1 - p), 1e-6)
        gradient = np.array([((right - p) * x).sum() - (slope - 1.0), (right - p).sum()])
        hessian = np.array(
            [[(w * x * x).sum() + 1.0, (w * x).sum()], [(w * x).sum(), w.sum() + 1e-3]]
        )
        step = np.linalg.solve(hessian, gradient)
        slope, offset = slope + step[0], offset + step[1]
    return _logistic(slope * z + offset)


def _logistic(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30.0, 30.0))), np.float64)


def _logit(share: Floats) -> Floats:
    kept = np.clip(share, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(kept / (1 - kept)), np.float64)


def _measured(
    today: Answered, before: Answered, usual: Floats, generator: np.random.Generator
) -> Estimate | None:
    """Return the change on gold, where both sides have enough."""
    now = today.right[~np.isnan(today.right)]
    known = ~np.isnan(before.right)
    if len(now) < LEAST_GOLD or known.sum() < LEAST_GOLD:
        return None
    then, weights = before.right[known], usual[known] + 1e-12
    weights = weights / weights.sum()
    point = now.mean() - then @ weights
    drawn = [
        generator.choice(now, len(now)).mean() - generator.choice(then, len(then), p=weights).mean()
        for _ in range(BOOTSTRAPS)
    ]
    return _interval(100 * point, [100 * one for one in drawn], "gold", len(now))


def _labels(
    today: Answered, before: Answered, usual: Floats, generator: np.random.Generator
) -> Estimate | None:
    """Return the change of the share of right weak labels, as the live model judges them.

    On the reference the model's opinion of a weak label is calibrated by itself: only its change
    counts. Rows without a weak label count as wrong: the next model does not learn from them.
    """
    if np.isnan(before.weak).all():
        return None
    now, then = np.nan_to_num(today.weak), np.nan_to_num(before.weak)
    point = now.mean() - then @ usual
    drawn = [
        generator.choice(now, len(now)).mean() - generator.choice(then, len(then), p=usual).mean()
        for _ in range(BOOTSTRAPS)
    ]
    return _interval(100 * point, [100 * one for one in drawn], "the model's opinion", len(now))


def _resamples(
    generator: np.random.Generator, rows: int, known: npt.NDArray[Any]
) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    return [
        (generator.integers(0, rows, rows), generator.choice(known, len(known)))
        for _ in range(BOOTSTRAPS)
    ]


def _interval(point: float, drawn: Sequence[float], method: str, rows: int) -> Estimate:
    low, high = np.quantile(np.asarray(drawn), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(
        round(float(point), 3), round(float(low), 3), round(float(high), 3), method, rows
    )


def spread(sample: pa.Table, rows: dict[str, int], seed: int = 0) -> pa.Table:
    """Return a sample in which sources have the shares of the day, drawn again where too few.

    Args:
        sample: As many rows of each source as were kept.
        rows: Source -> rows of the day.
        seed: Of the drawing.
    """
    total = sum(rows.values())
    if not total or sample.num_rows == 0:
        return sample.slice(0, 0)
    generator = np.random.default_rng(seed)
    sources = np.array(sample["source"].to_pylist(), object)
    size = sample.num_rows
    chosen = []
    for name in sorted(rows):
        own = np.flatnonzero(sources == name)
        wanted = round(size * rows[name] / total)
        if len(own) and wanted:
            chosen.append(
                own[:wanted] if wanted <= len(own)
                else np.concatenate([own, generator.choice(own, wanted - len(own))])
            )  # fmt: skip
    return sample.take(pa.array(np.concatenate(chosen))) if chosen else sample.slice(0, 0)


__all__ = ["Answered", "Scores", "answered", "estimate", "spread"]
