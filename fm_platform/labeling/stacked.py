"""A label model that learns from a few gold rows how far to trust which vote.

A soft-max regression from the votes to the class, shrunk towards the plain share of votes ("stacked
generalisation", Wolpert 1992). Each group (source) has its own deviation from the common weights,
shrunk, too, so that fifty gold rows of a source bend the model and do not make it. Its
probabilities are fitted to gold, so they are calibrated where vote shares are not; with few gold
rows of a group the answer is mixed with the vote shares, and without any it is the vote shares.

What it promises is measured on rows that it was fitted without: see `left_out`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fm_platform.labeling.calibration import tempered
from fm_platform.labeling.parameters import LabelModel
from fm_platform.labeling.partial import NO_SETS, ClassSets
from fm_platform.labeling.patterns import Floats, Ints, Votes

STACKED = "stacked"
LEAST_GOLD = 20
"""With fewer gold rows there is nothing to learn from, and this label model is no candidate."""

_FOLDS = 10
_GROUP_SCALE = 0.7  # how far a group may leave the common weights
_SHARE_SCALE = 2.0  # how far the shares may weigh more than the single votes
_DOUBT = 20  # gold rows of a group at which regression and vote shares count alike


@dataclass(frozen=True)
class StackedSettings:
    """How to fit.

    Attributes:
        per_group: Whether groups have weights of their own.
        pooled: Name of the model for groups that are not among the gold rows.
        inverse_regularization: Of the soft-max regression.
    """

    per_group: bool
    pooled: str
    inverse_regularization: float


@dataclass(frozen=True)
class StackedModel(LabelModel):
    """The fitted label model of one group; `prior` is the class shares of the gold rows.

    Attributes:
        weights: float64[m * k + k + 1, k], of single votes, of vote shares, and the intercept.
        trust: Share of the regression in the answer; the rest is the vote share.
    """

    weights: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    trust: float = 0.0

    def predict(self, votes: Votes, sets: ClassSets = NO_SETS) -> Floats:
        """Return posteriors float64[n, k]; without a vote they are the prior."""
        k = len(self.prior)
        seen, shares = vote_features(votes, k, sets)
        ones = np.ones((len(votes), 1))
        scores = np.concatenate([seen, _SHARE_SCALE * shares, ones], axis=1) @ self.weights
        scores -= scores.max(axis=1, keepdims=True)
        told = np.exp(scores)
        told /= told.sum(axis=1, keepdims=True)
        told = self.trust * told + (1 - self.trust) * shares
        told[shares.sum(axis=1) == 0] = self.prior
        return tempered(told, self.temperature)

    def to_json(self) -> dict[str, Any]:
        """Return exact JSON."""
        own = {"weights": self.weights.tolist(), "trust": self.trust}
        return {**super().to_json(), **own}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StackedModel:
        """Return what `to_json` wrote."""
        return cls(
            STACKED,
            np.array(value["prior"], np.float64),
            temperature=value["temperature"],
            rows=value["rows"],
            weights=np.array(value["weights"], np.float64),
            trust=float(value["trust"]),
        )


def vote_features(votes: Votes, n_classes: int, sets: ClassSets = NO_SETS) -> tuple[Floats, Floats]:
    """Return what each function says, float64[n, m * k], and the mean of it, float64[n, k].

    A vote for a set of classes counts for each of them in equal parts; abstentions are zeros.
    """
    n, m = votes.shape
    allowed = sets.allowed(votes, n_classes).astype(np.float64)
    parts = allowed / allowed.sum(axis=2, keepdims=True)
    parts[votes == -1] = 0.0
    total = parts.sum(axis=1)
    shares: Floats = total / np.maximum(total.sum(axis=1, keepdims=True), 1e-12)
    return parts.reshape(n, m * n_classes), shares


def fit_stacked(
    votes: Votes,
    groups: Sequence[str],
    labels: Ints,
    n_classes: int,
    settings: StackedSettings,
    sets: ClassSets = NO_SETS,
) -> dict[str, StackedModel]:
    """Fit on gold rows; return the model of each group, and of any other by its own name.

    Args:
        votes: int8[g, m], votes on the gold rows. Functions that learn from gold rows must have
            judged each of these without its own label.
        groups: g group names (sources).
        labels: Their classes.
        n_classes: k.
        settings: How to fit.
        sets: What votes below -1 mean.
    """
    from sklearn.linear_model import LogisticRegression

    seen, shares = vote_features(votes, n_classes, sets)
    plain = np.concatenate([seen, _SHARE_SCALE * shares], axis=1)
    width = plain.shape[1]
    names = sorted(set(groups)) if settings.per_group else []
    member = np.array([[group == name for name in names] for group in groups], np.float64)
    member = member.reshape(len(labels), len(names))
    parts = [plain, member]
    parts += [_GROUP_SCALE * plain * member[:, [i]] for i in range(len(names))]
    features = np.concatenate(parts, axis=1)
    rows, told = np.zeros((n_classes, features.shape[1])), np.full(n_classes, -30.0)
    if len(set(labels.tolist())) > 1:
        fit = LogisticRegression(C=settings.inverse_regularization, max_iter=2_000).fit(
            features, labels
        )
        rows, told = _by_class(fit, n_classes)
    else:
        told[labels] = 0.0
    common, offset = rows[:, :width].T, told
    prior = (np.bincount(labels, minlength=n_classes) + 1.0) / (len(labels) + n_classes)

    def model(weights: Floats, intercept: Floats, gold: int) -> StackedModel:
        return StackedModel(
            STACKED, prior, rows=float(gold), weights=np.vstack([weights, intercept]),
            trust=gold / (gold + _DOUBT),
        )  # fmt: skip

    found = {settings.pooled: model(common, offset, 0 if settings.per_group else len(labels))}
    for i, name in enumerate(names):
        begin = width + len(names) + i * width
        own = _GROUP_SCALE * rows[:, begin : begin + width].T
        gold = int(member[:, i].sum())
        found[name] = model(common + own, offset + rows[:, width + i], gold)
    return found


def _by_class(fit: Any, n_classes: int) -> tuple[Floats, Floats]:
    """Return weights [k, f] and intercepts [k]; a class without gold rows is never chosen."""
    weights, intercept = fit.coef_, fit.intercept_
    if len(fit.classes_) == 2:  # the library keeps the log odds of the second class only
        weights, intercept = np.vstack([0 * weights, weights]), np.append(0.0, intercept)
    rows, told = np.zeros((n_classes, weights.shape[1])), np.full(n_classes, -30.0)
    rows[fit.classes_], told[fit.classes_] = weights, intercept
    return rows, told


def left_out(
    votes: Votes,
    groups: Sequence[str],
    labels: Ints,
    n_classes: int,
    settings: StackedSettings,
    sets: ClassSets = NO_SETS,
) -> Floats:
    """Return posteriors float64[g, k] of gold rows, each by a model fitted without it.

    Ten folds, taken in turn within each group, so that every group is in every fit. Arguments as
    for `fit_stacked`.
    """
    names = np.array(groups, dtype=object)
    fold = np.zeros(len(labels), np.int64)
    for name in sorted(set(groups)):
        members = np.flatnonzero(names == name)
        fold[members] = np.arange(len(members)) % _FOLDS
    told = np.zeros((len(labels), n_classes))
    for number in range(_FOLDS):
        kept = np.flatnonzero(fold != number)
        models = fit_stacked(
            votes[kept], names[kept].tolist(), labels[kept], n_classes, settings, sets
        )
        for name in sorted(set(groups)):
            rows = np.flatnonzero((fold == number) & (names == name))
            told[rows] = models.get(name, models[settings.pooled]).predict(votes[rows], sets)
    return told


def learnable(labels: Ints) -> bool:
    """Whether there are gold rows enough, and of two classes at least."""
    return len(labels) >= LEAST_GOLD and len(set(labels.tolist())) > 1
