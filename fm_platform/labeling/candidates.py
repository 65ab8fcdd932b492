"""All label models of one set of rows, fitted together on a bounded sample of its patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.dependence import Sample, misfit, sample_of
from fm_platform.labeling.em import Known, Settings, fit_majority, run_em
from fm_platform.labeling.moments import fit_triplet
from fm_platform.labeling.parameters import (
    ANCHORED,
    CONFUSION,
    GROUPED,
    MAJORITY,
    ONE_COIN,
    SILENCE,
    TIED,
    TRIPLET,
    Kind,
    LabelModel,
    log_likelihood,
)
from fm_platform.labeling.partial import NO_SETS, ClassSets
from fm_platform.labeling.patterns import Floats, Ints, Votes
from fm_platform.labeling.units import Groups, Packed, pack

PATTERNS = 16_384
GOLD_SHARES = {"_gold": 0.1, "_gold_more": 0.3, "_gold_led": 1.0}
"""Ends the name of a method that was fitted on gold rows as well -> their weight, as a share of
that of all rows. A little steadies a model that is right; as much as all leads one whose hidden
classes are not those that people mean."""
_START_ROWS = 10.0  # of the model without gold, beside the gold rows, where EM starts
_FOLDS = 8
_ROUGHLY = 8.0  # a fold tells what a few gold rows are worth: its model may stop earlier
_KINDS: dict[str, Kind] = {kind: kind for kind in (ONE_COIN, TIED, CONFUSION, SILENCE, ANCHORED)}
METHODS: dict[str, tuple[str, ...]] = {
    "majority_vote": (MAJORITY,),
    "triplet": (TRIPLET,),
    "em": (ONE_COIN, TIED, CONFUSION),
    "em_silence": (SILENCE,),
    "em_grouped": (ONE_COIN + GROUPED, CONFUSION + GROUPED, SILENCE + GROUPED),
    "stacked": (),  # is fitted to gold rows alone: see fm_platform.labeling.stacked
}
"""What a project file asks for -> the methods."""
ANCHORED_METHODS: dict[str, tuple[str, ...]] = {
    "majority_vote": (MAJORITY,),
    "em": (ANCHORED,),
    "em_silence": (ANCHORED,),
    "em_grouped": (ANCHORED + GROUPED,),
}
"""The same where what functions of one class each say decides: see `Selection`."""


@dataclass(frozen=True)
class Gold:
    """Rows of which people said the class.

    Attributes:
        votes: int8[g, m].
        labels: int8[g]: a class, or a set of `sets` where people left it open.
        groups: g group names (sources).
        sets: What votes and labels below -1 mean.
    """

    votes: Votes
    labels: Votes
    groups: Sequence[str]
    sets: ClassSets = NO_SETS

    @property
    def single(self) -> Ints:
        """Positions of the rows with one class, int64: those that can show who is right."""
        return np.flatnonzero(self.labels >= 0)

    def inside(self, group: str) -> Gold:
        """Return the rows of one group."""
        kept = np.array([name == group for name in self.groups], bool)
        names = [name for name in self.groups if name == group]
        return Gold(self.votes[kept], self.labels[kept], names, self.sets)


@dataclass
class Part:
    """The rows of one group, and what was fitted on them.

    Attributes:
        name: A source, or `*` for all rows.
        patterns, weights: int8[p, m] and the rows each stands for.
        rows: How many rows there are.
        sample: Of the patterns, what the candidates are fitted on.
        models: Method -> model.
        fit: Method -> log likelihood less the price of its parameters (Schwarz 1978), in nats.
        predicted: Method -> accuracy, if the reference is right.
        labels: Method -> int64[p], what it says of the sample.
        misfit: Of the reference.
        believed: Posteriors of the sample by the reference.
        compared: float64[p], the rows of the sample on which models are compared.
    """

    name: str
    patterns: Votes
    weights: Floats
    rows: float
    sample: Sample
    models: dict[str, LabelModel] = field(default_factory=dict)
    fit: dict[str, float] = field(default_factory=dict)
    predicted: dict[str, float] = field(default_factory=dict)
    labels: dict[str, Ints] = field(default_factory=dict)
    misfit: float = 0.0
    believed: Floats | None = None
    compared: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.compared = self.sample.weights

    def compare_on_votes(self) -> None:
        """Leave out rows without any vote: nobody labels them, whatever their silence tells."""
        self.compared = self.sample.weights * (self.sample.patterns != -1).any(axis=1)


def part_of(name: str, patterns: Votes, weights: Floats, n_classes: int, sets: ClassSets) -> Part:
    """Return the rows of one group, with nothing fitted yet."""
    sample = sample_of(patterns, weights, n_classes, sets, most=PATTERNS)
    return Part(name, patterns, weights, float(weights.sum()), sample)


def fit_all(
    part: Part,
    methods: Sequence[str],
    groups: Groups,
    settings: Settings,
    start: LabelModel | None = None,
) -> None:
    """Fit every method on the part's sample.

    Args:
        part: Gets the models and how well they fit.
        methods: Names of methods; see `without_groups` for where there is no group.
        groups: Functions that copy one another.
        settings: How EM runs.
        start: A model of the day before, where EM starts.
    """
    sample = part.sample
    packed = {used: sample.pack(used) for used in {(), groups}}
    coverage = _coverage_likelihood(sample)
    for method in methods:
        if method == MAJORITY:
            part.models[method] = fit_majority(
                part.patterns, part.weights, sample.n_classes, sample.sets
            )
        elif method == TRIPLET:
            part.models[method] = fit_triplet(sample)
        else:
            kind, used = kind_of(method), groups if method.endswith(GROUPED) else ()
            model = run_em(packed[used], kind, settings, start=start)
            part.models[method] = model
            likelihood = log_likelihood(model, packed[used])
            part.fit[method] = (
                likelihood + (0.0 if model.silence else coverage) - _price(model, kind, sample)
            )


def without_groups(methods: Sequence[str]) -> list[str]:
    """Return what is fitted where no function copies another: each counts once anyway.

    Example:
        >>> without_groups(["em_confusion", "em_confusion_grouped", "em_silence_grouped"])
        ['em_confusion', 'em_silence']
    """
    return list(dict.fromkeys(method.removesuffix(GROUPED) for method in methods))


def kind_of(method: str) -> Kind:
    """Return which EM finds the parameters of a method."""
    return _KINDS[plain_name(method).removesuffix(GROUPED)]


def plain_name(method: str) -> str:
    """Return the name of a method without what gold rows did to it."""
    for suffix in sorted(GOLD_SHARES, key=len, reverse=True):
        method = method.removesuffix(suffix)
    return method


def judge(part: Part, reference: str) -> None:
    """Let the reference say how often each model is right, and how far it can be trusted."""
    part.believed = None
    for method in part.models:
        part.predicted[method] = believed_accuracy(part, reference, method)
    part.misfit = misfit(part.sample, part.models[reference])


def believed_accuracy(part: Part, reference: str, method: str) -> float:
    """Return how often a model is right, if the reference is."""
    sample = part.sample
    if part.believed is None:
        part.believed = part.models[reference].predict(sample.patterns, sample.sets)
    told = part.models[method].predict(sample.patterns, sample.sets).argmax(axis=1)
    part.labels[method] = told
    return _share(part, part.believed[np.arange(len(told)), told])


def differing(part: Part, one: str, other: str) -> float:
    """Return the share of rows to which two models give different classes."""
    return _share(part, part.labels[one] != part.labels[other])


def _share(part: Part, of: npt.NDArray[Any]) -> float:
    return float(part.compared @ of) / max(float(part.compared.sum()), 1e-12)


def fit_with_gold(
    part: Part, method: str, suffix: str, gold: Gold, settings: Settings
) -> tuple[LabelModel, Floats]:
    """Return a model that has seen gold rows, and what it would say of each without having.

    Args:
        part: The rows without labels, and the model that `method` found for them, where it starts.
        method: An EM method.
        suffix: Of `GOLD_SHARES`, how much the gold rows weigh.
        gold: Rows of the same group.
        settings: How EM runs.

    Returns:
        The model, and float64[g, k] from models fitted without the row's fold.
    """
    k, rows = part.sample.n_classes, np.arange(len(gold.labels))
    told = np.zeros((len(rows), k))
    folds = min(_FOLDS, len(rows))
    both = _Both.of(part, method, gold)
    roughly = replace(settings, tolerance=_ROUGHLY * settings.tolerance)
    for fold in range(folds):
        out = rows % folds == fold
        model = _semi_supervised(both, part, method, suffix, ~out, roughly)
        told[out] = model.predict(gold.votes[out], gold.sets)
    everyone = np.ones(len(rows), bool)
    return _semi_supervised(both, part, method, suffix, everyone, settings), told


def refined(part: Part, model: LabelModel, gold: Gold | None, settings: Settings) -> LabelModel:
    """Return a model fitted on all patterns, starting from what the sample gave."""
    if len(part.sample.patterns) == len(part.patterns) or not model.emissions:
        return model
    if model.method == TRIPLET:
        return model
    kind = kind_of(model.method)
    sets, k = part.sample.sets, part.sample.n_classes
    known = None
    patterns, weights = part.patterns, part.weights
    suffix = model.method.removeprefix(plain_name(model.method))
    if suffix and gold is not None and len(gold.labels):
        patterns, weights, known = _with_gold(part.patterns, part.weights, gold, k, suffix)
    packed = pack(patterns, weights, k, model.groups, sets)
    found = run_em(packed, kind, settings, start=model, known=known)
    return _named(found, model.method)


@dataclass(frozen=True)
class _Both:
    """The rows of a sample and gold rows, packed once for all folds.

    Attributes:
        rows: The sample's patterns, then the gold rows.
        gold: The gold rows alone.
        allowed: bool[g, k], the classes that people left open.
    """

    rows: Packed
    gold: Packed
    allowed: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, part: Part, method: str, gold: Gold) -> _Both:
        sample, groups = part.sample, part.models[method].groups
        k, votes = sample.n_classes, np.concatenate([sample.patterns, gold.votes])
        return cls(
            pack(votes, None, k, groups, sample.sets),
            pack(gold.votes, None, k, groups, sample.sets),
            gold.sets.allowed(gold.labels, k),
        )


def _semi_supervised(
    both: _Both,
    part: Part,
    method: str,
    suffix: str,
    used: npt.NDArray[np.bool_],
    settings: Settings,
) -> LabelModel:
    """Fit on the sample and those gold rows that are `used`, bool[g]; others weigh nothing."""
    weights, start = part.sample.weights, part.models[method]
    chosen = np.flatnonzero(used)
    each = _gold_weight(weights, len(chosen), suffix)
    packed = replace(both.rows, weights=np.concatenate([weights, used * each]))
    known = Known(len(weights) + chosen, both.allowed[chosen])
    # from where the gold rows point to, so that a model that the majority misled is left behind
    told = replace(both.gold, weights=used.astype(np.float64))
    few = replace(settings, max_iterations=1, carry=_START_ROWS / max(start.rows, 1.0))
    of_gold = Known(chosen, known.allowed)
    start = run_em(told, kind_of(method), few, start=start, known=of_gold)
    found = run_em(packed, kind_of(method), settings, start=start, known=known)
    return _named(found, method + suffix)


def _gold_weight(weights: Floats, count: int, suffix: str) -> float:
    """Return what each of so many gold rows weighs beside rows of these weights."""
    return max(1.0, GOLD_SHARES[suffix] * float(weights.sum()) / max(count, 1))


def _with_gold(
    patterns: Votes, weights: Floats, gold: Gold, n_classes: int, suffix: str
) -> tuple[Votes, Floats, Known]:
    """Return patterns with gold rows at the end, with the weight that `suffix` says."""
    count = len(gold.labels)
    each = _gold_weight(weights, count, suffix)
    known = Known(
        np.arange(len(patterns), len(patterns) + count),
        gold.sets.allowed(gold.labels, n_classes),
    )
    return (
        np.concatenate([patterns, gold.votes]),
        np.concatenate([weights, np.full(count, each)]),
        known,
    )


def _named(model: LabelModel, method: str) -> LabelModel:
    return LabelModel(
        method, model.prior, model.emissions, model.groups, model.links, model.silence,
        model.temperature, model.rows, model.seen,
    )  # fmt: skip


def _coverage_likelihood(sample: Sample) -> float:
    """Return the log likelihood of where votes are, if that did not depend on the class.

    With it a model that takes abstentions for no news can be compared with one that does not.
    """
    total = float(sample.weights.sum())
    if total == 0:
        return 0.0
    voted = sample.weights @ (sample.patterns != -1)
    share = np.clip(voted / total, 1e-12, 1 - 1e-12)
    return float((voted * np.log(share) + (total - voted) * np.log(1 - share)).sum())


def _price(model: LabelModel, kind: Kind, sample: Sample) -> float:
    """Return what the parameters of a model must at least have brought, in nats."""
    k, states = len(model.prior), len(model.prior) + model.silence
    grouped = {function for group in model.groups for function in group}
    parameters = k - 1
    for function in range(len(model.emissions)):
        rows = states if function in grouped else k
        if kind != TIED:
            parameters += 1 if kind == ONE_COIN else rows * (k - 1 + model.silence)
        parameters += 0 if model.silence else 1  # its coverage
    parameters += k * (k - 1) if kind == TIED else 0
    parameters += len(model.groups) * (1 if kind == ONE_COIN else k * (states - 1))
    return 0.5 * float(np.log(max(float(sample.weights.sum()), 2.0))) * parameters
