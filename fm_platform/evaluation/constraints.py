"""Declared constraints, verified on gold test rows of a trained model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fm_platform.evaluation.gate import Requirement
from fm_platform.evaluation.metrics import ALL, SystemPredictions, class_f1, measure
from fm_platform.spec.models import Evaluation, Gate


def constraints(
    model: SystemPredictions,
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    classes: Sequence[str],
    evaluation: Evaluation,
    rule: Gate,
    size_bytes: int,
) -> tuple[Requirement, ...]:
    """Return whether each declared constraint holds.

    Args:
        model: Its answers on the n rows of `gold`.
        gold: int[n] class indices.
        sources: n names.
        classes: Class names.
        evaluation: For the metric of the gate.
        rule: Declares the constraints.
        size_bytes: Of the model's files.
    """
    declared, found = rule.constraints, []
    for gap in declared.largest_gap:
        by_place = (
            class_f1(model, gold, classes)
            if gap.between == "class"
            else _by_source(model, gold, sources, classes, evaluation, rule.metric)
        )
        found.append(_gap(by_place, gap.between, gap.at_most, rule.metric))
    for ceiling in declared.false_positives:
        found.append(_false_positives(model, gold, list(classes), ceiling.label, ceiling.at_most))
    if declared.size_mb is not None:
        size = size_bytes / 1e6
        told = f"the model takes {size:.1f} MB (at most {declared.size_mb:g})"
        found.append(Requirement("size", size <= declared.size_mb, told))
    return tuple(found)


def _by_source(
    model: SystemPredictions,
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    classes: Sequence[str],
    evaluation: Evaluation,
    metric: str,
) -> dict[str, float]:
    few = evaluation.model_copy(update={"bootstrap_samples": 100})  # only the values are used
    measured = measure({"model": model}, gold, sources, len(classes), few)["model"]
    return {
        name: interval.value
        for name, found in measured.items()
        if name != ALL and (interval := found.values[metric]) is not None
    }


def _gap(values: dict[str, float], between: str, at_most: float, metric: str) -> Requirement:
    best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    gap = values[best] - values[worst]
    told = (
        f"the {'F1' if between == 'class' else metric} of {between} {best} ({values[best]:.3f}) "
        f"and {between} {worst} ({values[worst]:.3f}) lie {gap:.3f} apart (at most {at_most:g})"
    )
    return Requirement(f"gap between {between}", bool(gap <= at_most), told)


def _false_positives(
    model: SystemPredictions,
    gold: npt.NDArray[np.integer],
    classes: list[str],
    label: str,
    at_most: float,
) -> Requirement:
    others = gold != classes.index(label)
    wrong = int((np.asarray(model.labels)[others] == classes.index(label)).sum())
    n = int(others.sum())
    share = wrong / n if n else 0.0
    told = (
        f"{wrong} of {n} rows that are not {label} are called {label} "
        f"({share:.1%}, at most {at_most:.1%})"
    )
    return Requirement(f"false positives of {label}", share <= at_most, told)
