"""Label models: from votes to probabilities.

Majority vote and EM (Dawid & Skene 1979, "Maximum Likelihood Estimation of Observer Error-Rates
Using the EM Algorithm") on the unique vote patterns, in two variants: one accuracy per function
(one coin), or a full confusion matrix. All are fitted; dev gold rows choose; a tie goes to
majority vote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.spec.models import LabelModelSpec

Floats = npt.NDArray[np.float64]
Votes = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int64]

MAJORITY = "majority_vote"
ONE_COIN = "em_one_coin"
CONFUSION = "em_confusion"
POOLED = "*"
_LEAST_ROWS = 50
_PRIOR_ACCURACY_COUNTS = 2.0


def majority_vote(votes: Votes, n_classes: int) -> Floats:
    """Return vote shares float64[n, k]; rows without a vote get the mean of the others.

    Args:
        votes: int8[n, m], class index or -1.
        n_classes: k.

    Example:
        >>> majority_vote(np.array([[0, 0, 1]], np.int8), 2).round(2).tolist()
        [[0.67, 0.33]]
    """
    counts = np.stack([(votes == label).sum(axis=1) for label in range(n_classes)], axis=1)
    totals = counts.sum(axis=1, keepdims=True)
    shares: Floats = counts / np.maximum(totals, 1)
    labeled = totals[:, 0] > 0
    prior = shares[labeled].mean(axis=0) if labeled.any() else np.full(n_classes, 1 / n_classes)
    shares[~labeled] = prior
    return shares


@dataclass(frozen=True)
class LabelModel:
    """Class prior float64[k] and one confusion matrix per function, float64[m, k, k].

    `confusion[j, c, v]` is the probability that function j votes v on a row of class c, given
    that it votes at all.
    """

    prior: Floats
    confusion: Floats

    def predict(self, votes: Votes) -> Floats:
        """Return posteriors float64[n, k]; without a vote they are the prior."""
        patterns, inverse = np.unique(votes, axis=0, return_inverse=True)
        hot = _one_hot(patterns, len(self.prior))
        posterior: Floats = _posterior(hot, self.prior, self.confusion)[inverse.reshape(-1)]
        return posterior

    def to_json(self) -> dict[str, Any]:
        """Return exact JSON: Python writes the shortest text that reads back equal."""
        return {"prior": self.prior.tolist(), "confusion": self.confusion.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelModel:
        """Return what `to_json` wrote."""
        return cls(np.array(value["prior"]), np.array(value["confusion"]))


def fit_em(
    votes: Votes,
    n_classes: int,
    *,
    one_coin: bool,
    max_iterations: int = 100,
    smoothing: float = 1.0,
    tolerance: float = 1e-5,
) -> LabelModel:
    """Fit by EM on the unique vote patterns; the class prior is learned.

    Args:
        votes: int8[n, m], class index or -1 for abstain, which tells nothing.
        n_classes: k.
        one_coin: One accuracy per function instead of a confusion matrix.
        max_iterations: At most so many steps.
        smoothing: Pseudo-counts of each cell; the diagonal gets more, so that a function is
            better than chance until its votes say otherwise.
        tolerance: Stop when no posterior moves by more.
    """
    patterns, counts = np.unique(votes, axis=0, return_counts=True)
    posterior = majority_vote(patterns, n_classes)
    hot = _one_hot(patterns, n_classes)
    confusion = np.zeros((votes.shape[1], n_classes, n_classes))
    prior = np.full(n_classes, 1 / n_classes)
    for _ in range(max_iterations):
        weighted = posterior * counts[:, None]
        prior = weighted.sum(axis=0) + smoothing
        prior /= prior.sum()
        confusion = _confusion(hot, weighted, one_coin, smoothing)
        updated = _posterior(hot, prior, confusion)
        moved = float(np.abs(updated - posterior).max()) if len(updated) else 0.0
        posterior = updated
        if moved < tolerance:
            break
    return LabelModel(prior, confusion)


def _one_hot(patterns: Votes, k: int) -> Floats:
    """Return float64[n, m * k]: 1 where function j votes v, so that both EM steps are products."""
    n, m = patterns.shape
    hot = patterns[:, :, None] == np.arange(k, dtype=np.int8)
    flat: Floats = hot.reshape(n, m * k).astype(np.float64)
    return flat


def _confusion(hot: Floats, weighted: Floats, one_coin: bool, smoothing: float) -> Floats:
    """Return float64[m, k, k] from expected class counts of the patterns."""
    k = weighted.shape[1]
    prior_counts = smoothing * (0.5 + _PRIOR_ACCURACY_COUNTS * np.eye(k))
    # [m * k, k]: class mass behind each vote of each function -> [function, class, vote]
    cells = (hot.T @ weighted).reshape(-1, k, k).transpose(0, 2, 1)
    if one_coin:
        right = np.trace(cells, axis1=1, axis2=2) + smoothing * _PRIOR_ACCURACY_COUNTS
        total = cells.sum(axis=(1, 2)) + smoothing * (_PRIOR_ACCURACY_COUNTS + 1)
        accuracy = np.clip(right / total, 1 / k + 1e-3, 0.99)
        off: Floats = ((1 - accuracy) / max(k - 1, 1))[:, None, None] * (1 - np.eye(k))
        coin: Floats = off + accuracy[:, None, None] * np.eye(k)
        return coin
    cells = cells + prior_counts
    full: Floats = cells / cells.sum(axis=2, keepdims=True)
    return full


def _posterior(hot: Floats, prior: Floats, confusion: Floats) -> Floats:
    """Return posteriors float64[n, k] of one-hot patterns; an abstention adds nothing."""
    k = len(prior)
    log_votes = np.log(confusion).transpose(0, 2, 1).reshape(-1, k)
    log_likelihood = np.log(prior)[None, :] + hot @ log_votes
    log_likelihood -= log_likelihood.max(axis=1, keepdims=True, initial=-np.inf)
    posterior = np.exp(log_likelihood)
    result: Floats = posterior / posterior.sum(axis=1, keepdims=True)
    return result


@dataclass(frozen=True)
class LabelModelFit:
    """The chosen method, its models by group, and the evidence of the choice.

    Attributes:
        method: `majority_vote`, `em_one_coin` or `em_confusion`.
        n_classes: k.
        groups: Group -> model; `*` serves groups that are not there.
        evidence: One record per candidate and group: dev rows, accuracy, log loss, chosen.
    """

    method: str
    n_classes: int
    groups: Mapping[str, LabelModel]
    evidence: Sequence[Mapping[str, Any]]

    def predict(self, votes: Votes, groups: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return probabilities float32[n, k]."""
        return _predict(self.method, self.groups, votes, groups, self.n_classes).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return exact JSON."""
        return {
            "method": self.method,
            "n_classes": self.n_classes,
            "groups": {name: model.to_json() for name, model in sorted(self.groups.items())},
            "evidence": [dict(record) for record in self.evidence],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelModelFit:
        """Return what `to_json` wrote."""
        groups = {name: LabelModel.from_json(model) for name, model in value["groups"].items()}
        return cls(value["method"], value["n_classes"], groups, value["evidence"])


def fit_label_model(
    votes: Votes,
    groups: Sequence[str],
    dev_rows: Ints,
    dev_labels: Ints,
    n_classes: int,
    spec: LabelModelSpec,
) -> LabelModelFit:
    """Fit all candidates and choose on the dev gold rows.

    Another method replaces the first candidate (majority vote) only where it is better on dev in
    accuracy and in log loss: its probabilities become training targets, so a lucky row is not
    enough. Without dev rows the first candidate is used, and the evidence says so.

    Args:
        votes: int8[n, m].
        groups: n group names (sources).
        dev_rows: Positions of the dev gold rows.
        dev_labels: Their classes.
        n_classes: k.
        spec: Candidates and settings.
    """
    candidates = [MAJORITY] if "majority_vote" in spec.candidates else []
    candidates += [ONE_COIN, CONFUSION] if "em" in spec.candidates else []
    names = np.array(groups, dtype=object)
    fitted: dict[str, dict[str, LabelModel]] = {
        method: {} if method == MAJORITY else _fit_groups(votes, names, n_classes, method, spec)
        for method in candidates
    }
    records: list[dict[str, Any]] = []
    best, best_accuracy, best_loss = candidates[0], -1.0, np.inf
    dev_groups = names[dev_rows].tolist() if len(dev_rows) else []
    for method in candidates:
        if len(dev_rows) == 0:
            continue
        told = _predict(method, fitted[method], votes[dev_rows], dev_groups, n_classes)
        found = _evidence(method, told, dev_labels, dev_groups)
        records += found
        accuracy, loss = found[0]["accuracy"], found[0]["log_loss"]
        if accuracy > best_accuracy and loss < best_loss:
            best, best_accuracy, best_loss = method, accuracy, loss
    if not records:
        records = [{"method": best, "group": "all", "dev_rows": 0, "accuracy": None,
                    "log_loss": None}]  # fmt: skip
    evidence = [{**record, "chosen": record["method"] == best} for record in records]
    return LabelModelFit(best, n_classes, fitted[best], evidence)


def _fit_groups(
    votes: Votes, names: npt.NDArray[np.object_], n_classes: int, method: str, spec: LabelModelSpec
) -> dict[str, LabelModel]:
    """Fit the pooled model and, where there are rows enough, one for each group."""

    def fit(chosen: Votes) -> LabelModel:
        return fit_em(
            chosen,
            n_classes,
            one_coin=method == ONE_COIN,
            max_iterations=spec.max_iterations,
            smoothing=spec.smoothing,
            tolerance=spec.tolerance,
        )

    models = {POOLED: fit(votes)}
    if spec.per_source:
        for name in sorted(set(names.tolist())):
            inside = names == name
            if int(inside.sum()) >= _LEAST_ROWS:
                models[str(name)] = fit(votes[inside])
    return models


def _predict(
    method: str,
    models: Mapping[str, LabelModel],
    votes: Votes,
    groups: Sequence[str],
    n_classes: int,
) -> Floats:
    if method == MAJORITY:
        return majority_vote(votes, n_classes)
    names = np.array(groups, dtype=object)
    told = np.zeros((len(votes), n_classes))
    for name in sorted(set(names.tolist())):
        inside = names == name
        told[inside] = models.get(str(name), models[POOLED]).predict(votes[inside])
    return told


def _evidence(
    method: str, told: Floats, labels: Ints, groups: Sequence[str]
) -> list[dict[str, Any]]:
    names = np.array(groups, dtype=object)
    records = []
    for group in ["all", *sorted(set(groups))]:
        inside = np.ones(len(labels), bool) if group == "all" else names == group
        right = told[inside].argmax(axis=1) == labels[inside]
        chosen = told[inside][np.arange(int(inside.sum())), labels[inside]]
        records.append(
            {
                "method": method,
                "group": group,
                "dev_rows": int(inside.sum()),
                "accuracy": round(float(right.mean()), 4),
                "log_loss": round(float(-np.log(np.clip(chosen, 1e-3, 1)).mean()), 4),
            }
        )
    return records
