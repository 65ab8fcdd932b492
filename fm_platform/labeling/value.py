"""What each labeling function is worth: what the label model loses without it.

The label model in use is fitted again without the function's column, from votes that are there:
same method, same groups of copies, starting from where the full fit ended. Both are judged on the
dev gold rows, each row without having been learned from where the method reads gold rows. What is
told is the difference of the two, row by row: of the log loss (nats a row), of the rows that are
right, and without any gold row the share of all rows that get another label.

The votes of other functions stay as they are: one that learns from the others' votes is not asked
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from fm_platform.labeling.calibration import tempered
from fm_platform.labeling.candidates import (
    Gold,
    Part,
    fit_with_gold,
    kind_of,
    part_of,
    plain_name,
)
from fm_platform.labeling.dependence import sample_of
from fm_platform.labeling.em import Settings, fit_majority, run_em
from fm_platform.labeling.fitted import POOLED, LabelModelFit, predict_groups
from fm_platform.labeling.moments import fit_triplet
from fm_platform.labeling.parameters import MAJORITY, TRIPLET, LabelModel
from fm_platform.labeling.partial import ClassSets
from fm_platform.labeling.patterns import Floats, VoteCounter, Votes, unique_patterns
from fm_platform.labeling.stacked import (
    STACKED,
    StackedSettings,
    fit_stacked,
    learnable,
    left_out,
)
from fm_platform.spec.models import LabelModelSpec

SAMPLE = 4_096
"""Patterns that a fit without a function looks at, of each source."""
_LEAST_PROBABILITY = 1e-3
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Value:
    """What one labeling function is worth to the label model.

    Attributes:
        function: Its name.
        log_loss: Nats a dev row by which the log loss rises without it; below 0 it falls.
        low, high: The 95 % interval of that, from the differences of the rows.
        accuracy: Share of dev rows by which fewer are right without it.
        gained, lost: Dev rows that are right only with it, and only without it.
        changed: Share of all rows whose label is another without it.
        dev_rows: Dev rows; the first six are None, or 0, without any.
    """

    function: str
    log_loss: float | None
    low: float | None
    high: float | None
    accuracy: float | None
    gained: int
    lost: int
    changed: float
    dev_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def marginal_values(
    counters: Mapping[str, VoteCounter],
    gold: Gold,
    fit: LabelModelFit,
    names: Sequence[str],
    spec: LabelModelSpec,
) -> list[Value]:
    """Return the value of every function, in the order of `names`.

    Args:
        counters: `*` and sources -> the counted votes of their rows, int8[n, m] each.
        gold: Dev gold rows, by the same sets.
        fit: The label model in use.
        names: m function names.
        spec: Its settings.
    """
    parts = {}
    for name in fit.groups:
        if name in counters:
            patterns, weights = counters[name].patterns()
            parts[name] = part_of(name, patterns, weights, fit.n_classes, counters[name].sets)
    single = gold.single
    judged = Gold(
        gold.votes[single], gold.labels[single], [gold.groups[i] for i in single], gold.sets
    )
    whole = _Fitted(parts, judged, fit, spec, None)
    return [
        _value(name, whole, _Fitted(parts, judged, fit, spec, function))
        for function, name in enumerate(names)
    ]


class _Fitted:
    """The label model fitted again, with all functions or without one.

    Attributes:
        told: float64[g, k], what it says of the gold rows.
        best: Group -> its class of each pattern of the whole part's sample.
        weights: Group -> rows that each pattern stands for.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        gold: Gold,
        fit: LabelModelFit,
        spec: LabelModelSpec,
        function: int | None,
    ) -> None:
        self.fit, self.spec, self.gold = fit, spec, _less(gold, function)
        self.settings = Settings(spec.max_iterations, spec.smoothing, spec.tolerance)
        self.best: dict[str, np.ndarray[Any, Any]] = {}
        self.weights: dict[str, Floats] = {}
        models: dict[str, LabelModel] = {}
        told = np.zeros((len(gold.labels), fit.n_classes))
        stacked = self._stacked()
        for name, part in sorted(parts.items()):
            own = np.array([group == name for group in gold.groups], bool)
            if name == POOLED:
                own = np.array([group not in parts for group in gold.groups], bool)
            used = fit.groups[name]
            if used.method == STACKED:
                models[name] = replace(
                    stacked[0].get(name, stacked[0][POOLED]), temperature=used.temperature
                )
                told[own] = stacked[1][own]
            else:
                models[name], told[own] = self._again(part, used, function, own)
            sample = part.sample
            votes = _dropped(sample.patterns, function)
            self.best[name] = models[name].predict(votes, sample.sets).argmax(axis=1)
            self.weights[name] = sample.weights
        self.told = told
        self.labels = gold.labels.astype(np.int64)

    def _stacked(self) -> tuple[dict[str, Any], Floats]:
        gold, k = self.gold, self.fit.n_classes
        uses = any(model.method == STACKED for model in self.fit.groups.values())
        if not uses or not learnable(gold.labels.astype(np.int64)):
            return {}, np.zeros((0, k))
        settings = StackedSettings(self.spec.per_source, POOLED, self.spec.inverse_regularization)
        labels = gold.labels.astype(np.int64)
        models = fit_stacked(gold.votes, gold.groups, labels, k, settings, gold.sets)
        told = left_out(gold.votes, gold.groups, labels, k, settings, gold.sets)
        return dict(models), told

    def _again(
        self, part: Part, used: LabelModel, function: int | None, own: np.ndarray[Any, Any]
    ) -> tuple[LabelModel, Floats]:
        """Return the model of one part, and what it says of the part's gold rows."""
        k, gold = self.fit.n_classes, self.gold
        patterns, weights = _merged(part, function)
        sample = sample_of(patterns, weights, k, part.sample.sets, most=SAMPLE)
        kept = [group for group, inside in zip(gold.groups, own, strict=True) if inside]
        if used.method in (MAJORITY, TRIPLET):
            found = (
                fit_majority(patterns, weights, k, sample.sets)
                if used.method == MAJORITY
                else fit_triplet(sample)
            )
        else:
            plain = plain_name(used.method)
            start = replace(without(used, function), method=plain)
            found = run_em(sample.pack(start.groups), kind_of(plain), self.settings, start=start)
            suffix = used.method.removeprefix(plain)
            learned = gold if part.name == POOLED else gold.inside(part.name)
            if suffix and len(learned.labels):
                small = replace(part, sample=sample, models={plain: found})
                found, told = fit_with_gold(small, plain, suffix, learned, self.settings)
                told = told[own] if part.name == POOLED else told
                return replace(found, temperature=used.temperature), tempered(
                    told, used.temperature
                )
        found = replace(found, temperature=used.temperature)
        said = predict_groups({POOLED: found}, gold.votes[own], kept, k, gold.sets)
        return found, said


def without(model: LabelModel, function: int | None) -> LabelModel:
    """Return a model that has never heard of a function.

    A group of copies of which only one member is left is a group no more.
    """
    if function is None:
        return model
    emissions, seen = list(model.emissions), list(model.seen)
    groups: list[tuple[int, ...]] = []
    links = []
    for group, link in zip(model.groups, model.links, strict=True):
        left = tuple(member for member in group if member != function)
        if len(left) > 1:
            groups.append(tuple(member - (member > function) for member in left))
            links.append(link)
            continue
        for member in left:
            emissions[member] = model.conditional(member)
            seen[member] = np.full(len(model.prior), float(seen[member].sum()) / len(model.prior))
    del emissions[function]
    if seen:
        del seen[function]
    return replace(
        model, emissions=tuple(emissions), groups=tuple(groups), links=tuple(links),
        seen=tuple(seen),
    )  # fmt: skip


def _value(name: str, whole: _Fitted, less: _Fitted) -> Value:
    total = sum(float(w.sum()) for group, w in whole.weights.items() if group != POOLED)
    groups = [group for group in whole.best if group != POOLED] or [POOLED]
    total = total or float(whole.weights[POOLED].sum())
    moved = sum(
        float(whole.weights[group] @ (whole.best[group] != less.best[group])) for group in groups
    )
    changed = round(moved / max(total, 1.0), 6)
    n = len(whole.labels)
    if not n:
        return Value(name, None, None, None, None, 0, 0, changed, 0)
    rows = np.arange(n)
    loss = [
        -np.log(np.maximum(one.told[rows, one.labels], _LEAST_PROBABILITY)) for one in (whole, less)
    ]
    right = [one.told.argmax(axis=1) == one.labels for one in (whole, less)]
    difference = loss[1] - loss[0]
    mean = float(difference.mean())
    spread = _Z95 * sqrt(float(((difference - mean) ** 2).sum()) / max(n - 1, 1) / n)
    gained, lost = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return Value(
        name, round(mean, 6), round(mean - spread, 6), round(mean + spread, 6),
        round((gained - lost) / n, 6), gained, lost, changed, n,
    )  # fmt: skip


def _less(gold: Gold, function: int | None) -> Gold:
    return replace(gold, votes=_dropped(gold.votes, function))


def _dropped(votes: Votes, function: int | None) -> Votes:
    if function is None:
        return votes
    found: Votes = np.delete(votes, function, axis=1)
    return found


def _merged(part: Part, function: int | None) -> tuple[Votes, Floats]:
    """Return the patterns of a part without a function, those that became equal as one."""
    if function is None:
        return part.patterns, part.weights
    sets: ClassSets = part.sample.sets
    patterns, index, _ = unique_patterns(
        _dropped(part.patterns, function), part.sample.n_classes, sets
    )
    joined = np.bincount(index, weights=part.weights, minlength=len(patterns))
    return patterns, joined.astype(np.float64)
