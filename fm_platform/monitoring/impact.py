"""What a shift costs the live model, without gold, and with it where there is some.

Two estimates are made of the share of right answers on the rows of a day:

* confidence: how sure the model is, and whether it agrees with the weak label of the row, tell how
  often it is right: calibrated on the gold of the reference (Guillory et al. 2021, "Predicting with
  confidence on unseen distributions", arXiv 2107.03315; for agreement Jiang et al. 2022, "Assessing
  generalization of SGD via disagreement", arXiv 2106.13799);
* importance weighting: right and wrong answers of the reference, each weighted by how much more
  often rows like it come today; the weight is the odds of a classifier that tells the two samples
  apart by their embeddings (Shimodaira 2000; Sugiyama et al. 2007, JMLR 8).

Where people labeled some rows of the day, only what the first leaves unexplained there has to be
learned from so few rows (prediction-powered inference: Angelopoulos et al. 2023, Science 382,
arXiv 2311.01453). A change of what people mean is seen on gold and on nothing else.

The share of right weak labels, what the next model learns from, is estimated like the first.
Each has an interval: by the calibration's covariance, or a seeded bootstrap over the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fm_platform.monitoring.answered import (
    Answered,
    Calibration,
    answered,
    calibrate,
    logit,
    signs,
    weights,
)
from fm_platform.monitoring.records import Estimate

Floats = npt.NDArray[np.float64]

LEAST_GOLD = 30
"""Gold rows of a sample below which nothing is measured on them alone."""
LEAST_JUDGED = 10
"""Gold rows of a day below which an estimate is not put right by them."""
BOOTSTRAPS = 200
_MAX_WEIGHT = 20.0
_LEVEL = 0.9
_Z = 1.645
"""Half the width of a 90 % interval, in standard deviations."""
_MODEL_ERROR = 4.0
"""Points by which an estimate without gold may be wrong however many rows there are."""
_MEANING_ERROR = 20.0
"""The same where people mean something else: it may be wrong by nearly all there is."""
_LABEL_ERROR = 10.0
"""The same for weak labels: what breaks them breaks what agreement with them means."""


@dataclass(frozen=True)
class Scores:
    """Estimated changes in points: of the model's answers, and of the weak labels."""

    confidence: Estimate | None
    weighting: Estimate | None
    gold: Estimate | None
    labels: Estimate | None
    assisted: Estimate | None = None

    @property
    def best(self) -> Estimate | None:
        """The estimate that gold of the day put right; else gold, or what there is without it."""
        return self.assisted or self.gold or self.without_gold

    @property
    def without_gold(self) -> Estimate | None:
        """Both estimates, each by how sure it is, with the wider interval."""
        both = [one for one in (self.confidence, self.weighting) if one is not None]
        if not both:
            return None
        precise = [1 / (_deviation(one) ** 2 + _MODEL_ERROR**2) for one in both]
        points = float(np.average([one.points for one in both], weights=precise))
        return Estimate(
            round(points, 3), min(points, *(one.low for one in both)),
            max(points, *(o.high for o in both)), " and ".join(one.method for one in both),
            both[0].rows,
        )  # fmt: skip


def estimate(
    today: Answered, before: Answered, *, day: Mapping[str, int] | None = None,
    expected: Mapping[str, float] | None = None, seed: int = 0, meaning: bool = False,
) -> Scores:  # fmt: skip
    """Return the estimated changes from the reference to the day.

    Args:
        today: Sample of the day, with further rows that people labeled beside it.
        before: The same of the reference.
        day: Source -> rows of the day; None: `today` holds them all.
        expected: Source -> rows or share of rows that was usual; None: the shares of `before`.
        seed: Of the bootstrap.
        meaning: Whether it is known that people mean something else by their labels: how sure the
            model is tells nothing of that.
    """
    generator = np.random.default_rng(seed)
    now, then = weights(today, day), weights(before, expected)
    total = sum((day or {}).values()) or len(today)
    gold, known = today.judged, before.judged
    held = (
        (today, now), (gold, weights(gold, day)), (known, weights(known, expected)),
    )  # fmt: skip
    right = Three(
        *(Judged(signs(one), np.ones(len(one), bool), one.right, weight) for one, weight in held)
    )
    of_model, of_labels = (_MEANING_ERROR,) * 2 if meaning else (_MODEL_ERROR, _LABEL_ERROR)
    confidence, helped = _by_signs(right, total, "confidence", of_model)
    labels = Three(*(_of_labels(one, weight) for one, weight in held))
    guessed, seen = _by_signs(labels, total, "the model's opinion", of_labels)
    return Scores(
        confidence, _by_weights(today, now, before, then, generator),
        _measured(right.gold, right.then, generator), seen or guessed, helped,
    )  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Answers, and what people say of them.

    Attributes:
        signs: What tells that one is right, float64[n, 2].
        held: Whether there is an answer, bool[n]; none is never right.
        right: 1 and 0 where people judged, NaN elsewhere, float64[n].
        weight: Of each row, sum 1.
    """

    signs: Floats
    held: npt.NDArray[np.bool_]
    right: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.right)

    def told(self, calibration: Calibration) -> Floats:
        """Return how often these answers are right, float64[n]."""
        return np.where(self.held, calibration.told(self.signs), 0.0)

    def slope(self, calibration: Calibration) -> Floats:
        """Return how the mean of `told` moves with the calibration, float64[3]."""
        return calibration.slope(self.signs, self.weight * self.held)


def _of_labels(rows: Answered, weight: Floats) -> Judged:
    """Return the weak labels of rows as answers: the model's opinion tells how good they are."""
    told = np.column_stack([logit(np.nan_to_num(rows.weak)), rows.agrees])
    return Judged(told, ~np.isnan(rows.weak), rows.labeled, weight)


class Three(NamedTuple):
    """The rows that an estimate needs.

    Attributes:
        now: Sample of the day.
        gold: All rows of the day that people judged.
        then: All rows of the reference that people judged.
    """

    now: Judged
    gold: Judged
    then: Judged


def _by_signs(
    rows: Three, total: int, name: str, error: float
) -> tuple[Estimate | None, Estimate | None]:
    """Return the change of the share of right answers: by signs alone, and with the day's gold.

    Args:
        rows: Of the day and of the reference.
        total: Rows of the day.
        name: Of the estimate.
        error: Points by which it is wrong as a rule.
    """
    now, gold, then = rows
    if len(then) < LEAST_GOLD or not len(now) or not now.weight.sum():
        return None, None
    line = calibrate(then.signs[then.held], then.right[then.held])
    told, usual = now.told(line), then.told(line)
    point = 100 * float(told @ now.weight - usual @ then.weight)
    # what is uncertain: the line, which rows of the day were drawn, and those of the reference
    slope = now.slope(line) - then.slope(line)
    drawn = 1 - min(len(now) / max(total, 1), 1.0)
    variance = float(slope @ line.spread @ slope) + drawn * _of_mean(told, now.weight)
    guess = _around(point, 100 * np.sqrt(variance + _of_mean(usual, then.weight)), name, len(now))
    if len(gold) < LEAST_JUDGED:
        return guess, None
    left = Left(gold.right - gold.told(line), gold.weight, total)
    return guess, assisted(guess, left, Left(then.right - usual, then.weight, len(then)), error)


def _of_mean(values: Floats, weight: Floats) -> float:
    """Return the variance of the weighted mean of drawn values."""
    return float(values.var() * (weight**2).sum())


def _around(point: float, deviation: float, method: str, rows: int) -> Estimate:
    low, high = point - _Z * deviation, point + _Z * deviation
    return Estimate(round(point, 3), round(float(low), 3), round(float(high), 3), method, rows)


@dataclass(frozen=True)
class Left:
    """What an estimate leaves unexplained on the rows that people judged.

    Attributes:
        errors: Right (1 or 0) less expected, float64[n].
        weight: Of each row, float64[n].
        total: Rows of which these are a part.
    """

    errors: Floats
    weight: Floats
    total: int

    @property
    def mean(self) -> float:
        """Their mean in points."""
        return 100 * float(np.average(self.errors, weights=self.weight + 1e-12))

    @property
    def chance(self) -> float:
        """Standard deviation of that mean, in points."""
        weight = (self.weight + 1e-12) / (self.weight + 1e-12).sum()
        return 100 * float(self._usual * np.sqrt((weight**2).sum()))

    @property
    def part(self) -> float:
        """Share of all rows that people judged."""
        return min(len(self.errors) / max(self.total, 1), 1.0)

    @property
    def unseen(self) -> float:
        """Standard deviation of the mean of the rows that nobody judged, in points."""
        return 100 * float(self._usual / np.sqrt(max(self.total - len(self.errors), 1)))

    @property
    def _usual(self) -> float:
        """Standard deviation of one error; ten rows that were all right say nothing of it."""
        n = len(self.errors)
        return float(np.sqrt((n * self.errors.var() + LEAST_JUDGED * 0.2) / (n + LEAST_JUDGED)))


def assisted(guess: Estimate, now: Left, then: Left, usual_error: float = _MODEL_ERROR) -> Estimate:
    """Return an estimate that what it leaves unexplained on the day's gold has put right.

    What is left is the error of the estimate and chance. That error is some `usual_error` points
    as a rule; where what is left is more than both would give, as when people mean something else
    by their labels, gold is believed (empirical Bayes, positive part: Efron & Morris 1973). What
    was measured on the labeled part of the day needs no belief.

    Args:
        guess: The change without gold, in points.
        now: What it leaves on the gold rows of the day.
        then: The same on the reference, where it was calibrated.
        usual_error: Points by which such an estimate is wrong as a rule.
    """
    seen, chance = now.mean - then.mean, float(np.hypot(now.chance, then.chance))
    error = max(usual_error**2, seen**2 - chance**2)
    believed = error / (error + chance**2)
    rest = 1 - now.part
    points = guess.points + (now.part + rest * believed) * seen
    # of the rows nobody judged: what is believed may be wrong, and they are drawn, too
    spread = float(
        np.hypot(now.part * then.chance, rest * np.hypot(np.sqrt(believed) * chance, now.unseen))
    )
    return _around(points, spread, f"gold and {guess.method}", len(now.errors))


def mix_effect(before: Answered, day: Mapping[str, int], expected: Mapping[str, float]) -> float:
    """Return the change in points because sources have other shares of the rows than usual.

    Args:
        before: Sample of the reference.
        day: Source -> rows of the day; sources that `before` does not hold are left out.
        expected: Source -> share of rows that was usual.
    """
    judged = before.judged
    if len(judged) < LEAST_GOLD:
        return 0.0
    level = float(np.average(judged.right, weights=weights(judged, expected) + 1e-12))
    names = sorted(set(before.sources.tolist()))
    came = np.array([float(day.get(name, 0)) for name in names])
    usual = np.array([float(expected.get(name, 0.0)) for name in names])
    if came.sum() <= 0 or usual.sum() <= 0:
        return 0.0
    held = [judged.right[judged.sources == name] for name in names]
    # a source with few judged rows counts as half known
    levels = [(one.sum() + LEAST_GOLD * level) / (len(one) + LEAST_GOLD) for one in held]
    return 100 * float((came / came.sum() - usual / usual.sum()) @ np.array(levels))


def _deviation(one: Estimate) -> float:
    return max(one.high - one.low, 0.1) / (2 * _Z)


def _odds(today: Answered, before: Answered, now: Floats) -> Floats:
    """Return how much more often rows like each of the reference come today, float64[n]."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows = np.concatenate([before.vectors, today.vectors])
    side = np.repeat([0, 1], [len(before), len(today)])
    scaled = StandardScaler().fit_transform(rows)
    weight = np.concatenate([np.full(len(before), 1 / len(before)), now]) * len(rows) / 2
    model = LogisticRegression(C=0.05, max_iter=300).fit(scaled, side, sample_weight=weight)
    chance = model.predict_proba(scaled[: len(before)])[:, 1]
    odds = np.clip(chance / np.maximum(1 - chance, 1e-6), 1 / _MAX_WEIGHT, _MAX_WEIGHT)
    return np.asarray(odds, np.float64)


def _by_weights(
    today: Answered, now: Floats, before: Answered, then: Floats, generator: np.random.Generator
) -> Estimate | None:
    """Return the change if the reference's rows came as often as rows like them come today."""
    known = np.flatnonzero(~np.isnan(before.right))
    if len(known) < LEAST_GOLD or not len(today):
        return None
    odds = _odds(today, before, now)

    def change(rows: npt.NDArray[Any]) -> float:
        right = before.right[rows]
        usual = np.average(right, weights=then[rows] + 1e-12)
        return 100 * float(np.average(right, weights=odds[rows]) - usual)

    drawn = [change(generator.choice(known, len(known))) for _ in range(BOOTSTRAPS)]
    return _interval(change(known), drawn, "importance weighting", len(today))


def _measured(now: Judged, then: Judged, generator: np.random.Generator) -> Estimate | None:
    """Return the change on gold, where both sides have enough."""
    if min(len(now), len(then)) < LEAST_GOLD:
        return None
    sides = [(side.right, side.weight + 1e-12) for side in (now, then)]
    drawn: list[float] = []
    for _ in range(BOOTSTRAPS):
        means = []
        for right, weight in sides:
            rows = generator.integers(0, len(right), len(right))
            means.append(float(np.average(right[rows], weights=weight[rows])))
        drawn.append(100 * (means[0] - means[1]))
    point = np.average(sides[0][0], weights=sides[0][1]) - np.average(
        sides[1][0], weights=sides[1][1]
    )
    return _interval(100 * float(point), drawn, "gold", len(now))


def _interval(point: float, drawn: Sequence[float], method: str, rows: int) -> Estimate:
    low, high = np.quantile(np.asarray(drawn), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(
        round(float(point), 3), round(float(low), 3), round(float(high), 3), method, rows
    )


__all__ = ["Answered", "Scores", "answered", "estimate", "mix_effect"]
