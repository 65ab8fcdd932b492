"""Majority vote and EM on the unique vote patterns.

EM follows Dawid & Skene 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM
Algorithm", with a learned class prior, smoothing, and abstentions that tell nothing. Its cost
grows with the number of different patterns, not of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fm_platform.labeling.dependence import collapse, components
from fm_platform.labeling.patterns import Floats, Votes, one_hot, unique_patterns

MAJORITY = "majority_vote"
ONE_COIN = "em_one_coin"
CONFUSION = "em_confusion"
COLLAPSED = "em_collapsed"
_PRIOR_ACCURACY_COUNTS = 2.0
_BLOCK = 65_536  # patterns looked at together: bounds the memory of a step
_LEAST_PROBABILITY = 1e-12


def majority_vote(votes: Votes, n_classes: int, prior: Floats | None = None) -> Floats:
    """Return vote shares float64[n, k].

    Args:
        votes: int8[n, m], class index or -1.
        n_classes: k.
        prior: What rows without a vote get; the mean of the other rows without it.

    Example:
        >>> majority_vote(np.array([[0, 0, 1]], np.int8), 2).round(2).tolist()
        [[0.67, 0.33]]
    """
    counts = np.stack([(votes == label).sum(axis=1) for label in range(n_classes)], axis=1)
    totals = counts.sum(axis=1, keepdims=True)
    shares: Floats = counts / np.maximum(totals, 1)
    labeled = totals[:, 0] > 0
    if prior is None:
        some = labeled.any()
        prior = shares[labeled].mean(axis=0) if some else np.full(n_classes, 1 / n_classes)
    shares[~labeled] = prior
    return shares


@dataclass(frozen=True)
class LabelModel:
    """A fitted label model: everything that turns votes into probabilities.

    `confusion[j, c, v]` is the probability that function j votes v on a row of class c, given
    that it votes at all.

    Attributes:
        method: `majority_vote`, `em_one_coin`, `em_confusion` or `em_collapsed`.
        prior: float64[k], class shares; what a row without a vote gets.
        confusion: float64[m, k, k]; empty for majority vote; of groups for `em_collapsed`.
        groups: For `em_collapsed` the functions that count as one.
    """

    method: str
    prior: Floats
    confusion: Floats
    groups: tuple[tuple[int, ...], ...] = ()

    def predict(self, votes: Votes) -> Floats:
        """Return posteriors float64[n, k]; without a vote they are the prior."""
        k = len(self.prior)
        if self.method == MAJORITY:
            return majority_vote(votes, k, self.prior)
        if self.groups:
            votes = collapse(votes, self.groups, k)
        patterns, inverse, _ = unique_patterns(votes, k)
        told = [_posterior(hot, self.prior, self.confusion) for _, hot in _blocks(patterns, k)]
        posterior: Floats = np.concatenate(told)[inverse]
        return posterior

    def to_json(self) -> dict[str, Any]:
        """Return exact JSON: Python writes the shortest text that reads back equal."""
        return {
            "method": self.method,
            "prior": self.prior.tolist(),
            "confusion": self.confusion.tolist(),
            "groups": [list(group) for group in self.groups],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelModel:
        """Return what `to_json` wrote."""
        k = len(value["prior"])
        return cls(
            value["method"],
            np.array(value["prior"], np.float64),
            np.array(value["confusion"], np.float64).reshape(-1, k, k),
            tuple(tuple(group) for group in value["groups"]),
        )


def fit_majority(votes: Votes, n_classes: int) -> LabelModel:
    """Return majority vote with the mean vote shares as the prior."""
    patterns, _, counts = unique_patterns(votes, n_classes)
    voted = (patterns >= 0).any(axis=1)
    weights = counts[voted].astype(np.float64)
    if len(weights):
        prior = np.average(majority_vote(patterns[voted], n_classes), axis=0, weights=weights)
    else:
        prior = np.full(n_classes, 1 / n_classes)
    return LabelModel(MAJORITY, prior, np.zeros((0, n_classes, n_classes)))


def fit_em(
    votes: Votes,
    n_classes: int,
    *,
    one_coin: bool,
    collapsed: bool = False,
    max_iterations: int = 100,
    smoothing: float = 1.0,
    tolerance: float = 1e-5,
) -> LabelModel:
    """Fit by EM on the unique vote patterns; the class prior is learned.

    Args:
        votes: int8[n, m], class index or -1 for abstain, which tells nothing.
        n_classes: k.
        one_coin: One accuracy per function instead of a confusion matrix.
        collapsed: Let functions that copy one another count as one.
        max_iterations: At most so many steps.
        smoothing: Pseudo-counts of each cell; the diagonal gets more, so that a function is
            better than chance until its votes say otherwise.
        tolerance: Stop when no posterior moves by more.
    """
    patterns, _, counts = unique_patterns(votes, n_classes)
    groups: tuple[tuple[int, ...], ...] = ()
    if collapsed:
        groups = components(patterns, counts, n_classes)
        patterns, inverse, _ = unique_patterns(collapse(patterns, groups, n_classes), n_classes)
        counts = np.bincount(inverse, weights=counts, minlength=len(patterns)).astype(np.int64)
    posterior = majority_vote(patterns, n_classes)
    blocks = list(_blocks(patterns, n_classes)) if len(patterns) <= _BLOCK else None
    confusion = np.zeros((patterns.shape[1], n_classes, n_classes))
    prior = np.full(n_classes, 1 / n_classes)
    for _ in range(max_iterations):
        weighted = posterior * counts[:, None]
        mass = weighted.sum(axis=0) + smoothing
        prior = mass / mass.sum() if mass.sum() > 0 else np.full(n_classes, 1 / n_classes)
        cells = np.zeros((patterns.shape[1] * n_classes, n_classes))
        for where, hot in blocks or _blocks(patterns, n_classes):
            cells += hot.T @ weighted[where]
        confusion = _confusion(cells, one_coin, smoothing)
        moved = 0.0
        for where, hot in blocks or _blocks(patterns, n_classes):
            updated = _posterior(hot, prior, confusion)
            moved = max(moved, float(np.abs(updated - posterior[where]).max(initial=0)))
            posterior[where] = updated
        if moved < tolerance:
            break
    method = COLLAPSED if collapsed else ONE_COIN if one_coin else CONFUSION
    return LabelModel(method, prior, confusion, groups)


def _blocks(patterns: Votes, k: int) -> Iterator[tuple[slice, Floats]]:
    """Yield patterns one-hot, some at a time; one empty block where there is none."""
    for start in range(0, max(len(patterns), 1), _BLOCK):
        where = slice(start, start + _BLOCK)
        yield where, one_hot(patterns[where], k)


def _confusion(cells: Floats, one_coin: bool, smoothing: float) -> Floats:
    """Return float64[m, k, k] from the class mass behind each vote, float64[m * k, k]."""
    k = cells.shape[1]
    # [m * k, k] -> [function, class, vote]
    cells = cells.reshape(-1, k, k).transpose(0, 2, 1)
    if one_coin:
        right = np.trace(cells, axis1=1, axis2=2) + smoothing * _PRIOR_ACCURACY_COUNTS
        total = cells.sum(axis=(1, 2)) + smoothing * (_PRIOR_ACCURACY_COUNTS + 1)
        share = np.divide(right, total, out=np.zeros_like(right), where=total > 0)
        accuracy = np.clip(share, 1 / k + 1e-3, 0.99)
        off: Floats = ((1 - accuracy) / (k - 1))[:, None, None] * (1 - np.eye(k))
        coin: Floats = off + accuracy[:, None, None] * np.eye(k)
        return coin
    cells = cells + smoothing * (0.5 + _PRIOR_ACCURACY_COUNTS * np.eye(k))
    total = cells.sum(axis=2, keepdims=True)
    full: Floats = np.divide(cells, total, out=np.full(cells.shape, 1 / k), where=total > 0)
    return full


def _posterior(hot: Floats, prior: Floats, confusion: Floats) -> Floats:
    """Return posteriors float64[n, k] of one-hot patterns; an abstention adds nothing."""
    k = len(prior)
    log_votes = np.log(np.maximum(confusion, _LEAST_PROBABILITY)).transpose(0, 2, 1).reshape(-1, k)
    log_likelihood = np.log(np.maximum(prior, _LEAST_PROBABILITY))[None, :] + hot @ log_votes
    log_likelihood -= log_likelihood.max(axis=1, keepdims=True, initial=-np.inf)
    posterior = np.exp(log_likelihood)
    result: Floats = posterior / posterior.sum(axis=1, keepdims=True)
    return result
