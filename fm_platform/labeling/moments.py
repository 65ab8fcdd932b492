"""Accuracies in closed form, from how often functions agree: the triplet method.

Fu et al. 2020, "Fast and Three-rious: Speeding Up Weak Supervision with Triplet Methods"
(FlyingSquid), for k classes: where errors are even over the other classes, two independent
functions agree on a share 1/k + (k - 1)/k * s_i * s_j of the rows on which both vote, with
s = (k * accuracy - 1)/(k - 1), whatever the class shares are. Each pair of other functions gives
an estimate |s_i| = sqrt(|A_ij * A_il / A_jl|); their median is taken.
"""

from __future__ import annotations

import numpy as np

from fm_platform.labeling.dependence import Sample
from fm_platform.labeling.parameters import TRIPLET, LabelModel
from fm_platform.labeling.patterns import Floats

_LEAST_AGREEMENT = 0.02
_LEAST_COMMON_ROWS = 30
_MOST = 0.98  # of a skill: no function is taken for infallible
_UNKNOWN = 0.4  # skill of a function that no triplet tells about


def fit_triplet(sample: Sample) -> LabelModel:
    """Return the one-coin model that the agreements of pairs determine; no iteration.

    Functions are taken for independent, and for better than chance.

    Args:
        sample: Patterns with weights.
    """
    patterns, k = sample.patterns, sample.n_classes
    skills = _skills(_skill_products(sample))
    accuracies = (1 + (k - 1) * skills) / k
    emissions = tuple(
        (1 - a) / (k - 1) * (1 - np.eye(k)) + a * np.eye(k) for a in accuracies.tolist()
    )
    seen = tuple(
        np.full(k, float(sample.weights[patterns[:, j] >= 0].sum()) / k)
        for j in range(len(emissions))
    )
    prior = _prior(sample, skills)
    rows = float(sample.weights.sum())
    return LabelModel(TRIPLET, prior, emissions, rows=rows, seen=seen)


def _skill_products(sample: Sample) -> Floats:
    """Return float64[m, m], the estimate of s_i * s_j; NaN where few rows have both votes."""
    patterns, k = sample.patterns, sample.n_classes
    weights = sample.weights[:, None]
    voted = (patterns >= 0).astype(np.float64)
    common = voted.T @ (voted * weights)
    equal = np.zeros(common.shape)
    for label in range(k):
        hit = (patterns == label).astype(np.float64)
        equal += hit.T @ (hit * weights)
    products = (k * equal / np.maximum(common, 1) - 1) / (k - 1)
    products[common < _LEAST_COMMON_ROWS] = np.nan
    np.fill_diagonal(products, np.nan)
    return products


def _skills(products: Floats) -> Floats:
    """Return float64[m], the median over pairs of other functions."""
    functions = len(products)
    size = np.abs(products)
    size[size < _LEAST_AGREEMENT] = np.nan
    skills = np.full(functions, _UNKNOWN)
    for function in range(functions):
        row = size[function]
        squared = row[:, None] * row[None, :] / size
        known = squared[np.triu_indices(functions, 1)]
        known = known[np.isfinite(known)]
        if len(known):
            skills[function] = min(float(np.sqrt(np.median(known))), _MOST)
    return skills


def _prior(sample: Sample, skills: Floats) -> Floats:
    """Return float64[k]: the class shares that would give the shares of each function's votes."""
    patterns, k = sample.patterns, sample.n_classes
    share, trust = np.zeros(k), 0.0
    for function, skill in enumerate(skills.tolist()):
        counts = np.array(
            [sample.weights[patterns[:, function] == label].sum() for label in range(k)]
        )
        if counts.sum() > 0 and skill > 0:
            # P(vote c) = skill * P(class c) + (1 - skill)/k, solved and weighted by precision
            weight = float(counts.sum()) * skill**2
            share += weight * (counts / counts.sum() - (1 - skill) / k) / skill
            trust += weight
    if trust == 0:
        return np.full(k, 1 / k)
    clipped = np.maximum(share / trust, 0.5 / max(float(sample.weights.sum()), 1.0))
    prior: Floats = clipped / clipped.sum()
    return prior
