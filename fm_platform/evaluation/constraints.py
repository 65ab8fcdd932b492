"""Declared constraints, verified on gold test rows of a trained model.

Where a confidence is declared, a constraint must be shown to hold: its one-sided upper bound must
not lie above the ceiling, as in the safety test of Thomas et al. 2019, "Preventing undesirable
behavior of intelligent machines" (Science 366). Bounds of a gap are quantiles of the bootstrap;
those of a share are exact (Clopper and Pearson 1934).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fm_platform.evaluation.bootstrap import Floats, resampled_sums
from fm_platform.evaluation.counts import f1_of, metrics_of, row_features, strata_of
from fm_platform.evaluation.gate import TAIL_DRAWS, Requirement
from fm_platform.evaluation.metrics import SystemPredictions
from fm_platform.spec.evaluation import LargestGap
from fm_platform.spec.models import Evaluation, Gate

_LEAST_ROWS = 30
"""Gold rows of a place from which on resampling them says something of others."""
Mask = npt.NDArray[np.bool_]


def constraints(
    model: SystemPredictions,
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    classes: Sequence[str],
    evaluation: Evaluation,
    rule: Gate,
    size_bytes: int,
    slices: Mapping[str, Mask] | None = None,
) -> tuple[Requirement, ...]:
    """Return whether each declared constraint holds.

    Args:
        model: Its answers on the n rows of `gold`.
        gold: int[n] class indices.
        sources: n names; the strata of the bootstrap.
        classes: Class names.
        evaluation: Resamples and seed.
        rule: Declares the constraints, and the metric of a gap.
        size_bytes: Of the model's files.
        slices: bool[n] by name, where a gap is between slices.

    Raises:
        EvaluationError: If there are no rows or predictions do not match them.
    """
    declared, found = rule.constraints, []
    rows = _Rows(model, gold, sources, classes, evaluation, rule, slices or {})
    for gap in declared.largest_gap:
        found.append(rows.gap(gap))
    for ceiling in declared.false_positives:
        found.append(rows.false_positives(ceiling.label, ceiling.at_most))
    if declared.size_mb is not None:
        size = size_bytes / 1e6
        told = f"the model takes {size:.1f} MB (at most {declared.size_mb:g})"
        found.append(Requirement("size", size <= declared.size_mb, told))
    return tuple(found)


def share_bounds(count: int, n: int, confidence: float) -> tuple[float, float]:
    """Return the one-sided lower and upper bounds of a share, each of this confidence.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the
    case of the binomial" (Biometrika 26), by quantiles of the beta distribution. Without rows
    they are 0 and 1.

    Example:
        >>> round(share_bounds(0, 59, 0.95)[1], 3)  # 1 - 0.05 ** (1 / 59)
        0.05
    """
    from scipy.stats import beta

    low = float(beta.ppf(1 - confidence, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(confidence, count + 1, n - count)) if count < n else 1.0
    return low, high


@dataclass(frozen=True)
class _Rows:
    """What a model answers on gold rows, and what is declared of it."""

    model: SystemPredictions
    gold: npt.NDArray[np.integer]
    sources: Sequence[str]
    classes: Sequence[str]
    evaluation: Evaluation
    rule: Gate
    slices: Mapping[str, Mask]

    def gap(self, declared: LargestGap) -> Requirement:
        """Return whether the best and the worst place are close enough."""
        what = declared.between if isinstance(declared.between, str) else "slice"
        name = f"gap between {what}"
        if what == "slice":
            name += f" {', '.join(declared.between)}"
        confidence = self.rule.constraints.confidence
        counts, values, drawn = self._places(declared)
        least = int(what == "slice") if confidence is None else _LEAST_ROWS
        few = [f"{what} {one} has {n}" for one, n in counts.items() if n < least]
        if few:
            told = f"the {name} cannot be shown to be at most {declared.at_most:g}: of {least} gold"
            return Requirement(name, False, f"{told} rows that it takes, {' and '.join(few)}")
        best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
        gap = values[best] - values[worst]
        told = (
            f"the {'F1' if what == 'class' else self.rule.metric} of {what} {best} "
            f"({values[best]:.3f}) and {what} {worst} ({values[worst]:.3f}) lie {gap:.3f} apart"
        )
        if confidence is None:
            ok = bool(gap <= declared.at_most)
            return Requirement(name, ok, f"{told} (at most {declared.at_most:g})")
        low, high = (float(bound) for bound in np.quantile(drawn, [1 - confidence, confidence]))
        shown = (f"{low:.3f}", f"{high:.3f}", f"{declared.at_most:g}")
        bounds = f"({_bounds(*shown, confidence)}){verdict(low, high, declared.at_most)}"
        return Requirement(name, high <= declared.at_most, f"{told} {bounds}")

    def false_positives(self, label: str, at_most: float) -> Requirement:
        """Return whether few enough rows of other classes are called `label`."""
        index = list(self.classes).index(label)
        others = self.gold != index
        wrong = int((np.asarray(self.model.labels)[others] == index).sum())
        n = int(others.sum())
        share = wrong / n if n else 0.0
        name = f"false positives of {label}"
        counted = f"{wrong} of {n} rows that are not {label} are called {label}"
        confidence = self.rule.constraints.confidence
        if confidence is None:
            told = f"{counted} ({share:.1%}, at most {at_most:.1%})"
            return Requirement(name, share <= at_most, told)
        low, high = share_bounds(wrong, n, confidence)
        shown = (f"{low:.1%}", f"{high:.1%}", f"{at_most:.1%}")
        bounds = f"({share:.1%}, {_bounds(*shown, confidence)}){verdict(low, high, at_most)}"
        return Requirement(name, high <= at_most, f"{counted} {bounds}")

    def _places(self, declared: LargestGap) -> tuple[dict[str, int], dict[str, float], Floats]:
        """Return gold rows and value of each place, and the gap on each resample, float64[r]."""
        k = len(self.classes)
        _, strata = strata_of(self.gold, self.sources, k)
        matrix = row_features("model", self.model, self.gold, k, 1)
        if declared.between == "class":
            names, parts = list(self.classes), [matrix]
        else:
            masks = self._masks(declared)
            names, parts = list(masks), [matrix * mask[:, None] for mask in masks.values()]

        def told(sums: Sequence[Floats]) -> tuple[Floats, Floats]:
            """Return gold rows and values of the places, float64[..., places]."""
            if declared.between == "class":
                return sums[0][..., 2 + 2 * k : 2 + 3 * k], f1_of(sums[0], k)
            values = [metrics_of(one, k)[self.rule.metric] for one in sums]
            return np.stack([one[..., 0] for one in sums], axis=-1), np.stack(values, axis=-1)

        counts, values = told([part.sum(axis=0) for part in parts])
        there, drawn = np.flatnonzero(counts), np.zeros(0)
        if self.rule.constraints.confidence is not None and there.size:
            _, each = told([sums.sum(axis=1) for sums in self._resampled(parts, strata)])
            drawn = np.ptp(each[:, there], axis=1)
        return (
            {name: int(n) for name, n in zip(names, counts, strict=True)},
            {names[i]: round(float(values[i]), 6) for i in there},
            drawn,
        )

    def _masks(self, declared: LargestGap) -> dict[str, Mask]:
        if isinstance(declared.between, str):
            told = np.asarray(self.sources, dtype=object)
            return {name: np.asarray(told == name, bool) for name in sorted(set(self.sources))}
        return {name: self.slices[name] for name in declared.between}

    def _resampled(self, parts: Sequence[Floats], strata: npt.NDArray[np.int64]) -> list[Floats]:
        tail = 1.0 - (self.rule.constraints.confidence or 0.0)
        draws = max(self.evaluation.bootstrap_samples, math.ceil(TAIL_DRAWS / tail))
        seed = self.evaluation.seed
        return resampled_sums(parts, strata, int(strata.max()) + 1, samples=draws, seed=seed)


def _bounds(low: str, high: str, at_most: str, confidence: float) -> str:
    level = f"{100 * confidence:g}%"
    return f"between {low} and {high}, each bound with {level} confidence; at most {at_most}"


def verdict(low: float, high: float, at_most: float) -> str:
    """Return what bounds say against a ceiling; nothing where it is shown to hold."""
    if high <= at_most:
        return ""
    return ": that is violated" if low > at_most else ": that is not shown to hold"
