"""Which labeling functions copy one another, so that a copy does not count twice.

Functions that agree beyond chance (Cohen 1960) are joined one after the other, the most alike
first (average linkage). Each step is a hypothesis "these have one hidden source", and the one-coin
model with that source is fitted to a sample of the patterns: a step that explains the votes no
better than before, by `_LEAST_GAIN` nats a row and member, is dropped, and so is each group
without which the votes are explained as well, also where every function has a full confusion
matrix. So accurate functions, that agree because they are right, stay apart.

Votes alone cannot tell a clique of copies that is larger than all others together from the truth:
there gold rows decide (`choice`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.em import Settings, run_em
from fm_platform.labeling.parameters import (
    ANCHORED,
    CONFUSION,
    ONE_COIN,
    Kind,
    LabelModel,
    log_likelihood,
)
from fm_platform.labeling.partial import NO_SETS, ClassSets
from fm_platform.labeling.patterns import Floats, Votes, threshold_sample
from fm_platform.labeling.units import Groups, Packed, pack

Bools = npt.NDArray[np.bool_]

# fixed by benchmarks/label_settings.py, whose generators are not those of benchmarks/labeling.py
_LEAST_AGREEMENT = 0.15
_LEAST_GAIN = 0.006
_LEAST_AGREEMENT_OF_ONE_CLASS = 0.6  # by benchmarks/label_anchors.py
NO_MISFIT = 0.002
_PATIENCE = 12
SEARCHED = 8_192
_SEARCH = Settings(max_iterations=30, tolerance=2e-3)
_LEAST_COMMON_ROWS = 30


@dataclass(frozen=True)
class Sample:
    """Patterns to look for dependence in, and how many rows each is worth.

    The weights sum to the number of rows that a sample of the same precision would have, so that
    gains are not mistaken for more than they are.
    """

    patterns: Votes
    weights: Floats
    n_classes: int
    sets: ClassSets = NO_SETS

    def pack(self, groups: Groups) -> Packed:
        """Return the sample by unit."""
        return pack(self.patterns, self.weights, self.n_classes, groups, self.sets)


def sample_of(
    patterns: Votes,
    weights: Floats,
    n_classes: int,
    sets: ClassSets = NO_SETS,
    *,
    most: int = SEARCHED,
    seed: int = 0,
) -> Sample:
    """Return at most `most` patterns, drawn so that their weights are right on average."""
    if len(patterns) <= most:
        return Sample(patterns, weights, n_classes, sets)
    chosen, drawn = threshold_sample(weights, most, np.random.default_rng(seed))
    # a drawn pattern stands for as many rows as the threshold: so it is one independent row
    return Sample(patterns[chosen], drawn / drawn.min(), n_classes, sets)


def find_groups(sample: Sample, kinds: Sequence[Kind] = (ONE_COIN, CONFUSION)) -> Groups:
    """Return the groups of functions that copy one another, sorted; functions alone are in none.

    Args:
        sample: Patterns, as of `sample_of`.
        kinds: Models by which groups must explain the votes better: the first proposes them.
    """
    if sample.patterns.shape[1] < 3 or not len(sample.patterns):
        return ()
    packed = sample.pack(())
    alone = {}
    for kind in kinds:
        model = run_em(packed, kind, _SEARCH)
        if kind != ANCHORED and misfit(sample, model) < NO_MISFIT:
            return ()  # independence explains the votes: there is nothing to look for
        alone[kind] = _worth(sample, (), kind, packed, model)
    first, last = kinds[0], kinds[-1]
    scores: dict[Groups, float] = {(): alone[first]}
    best: Groups = ()
    failed = 0
    least = _LEAST_AGREEMENT_OF_ONE_CLASS if first == ANCHORED else _LEAST_AGREEMENT
    for groups in joined(agreement(sample), least):
        scores[groups] = _score(sample, groups, first)
        if scores[groups] > scores[best]:
            best, failed = groups, 0
        else:
            failed += 1
            if failed == _PATIENCE:
                break
    best = _thinned(sample, best, first, scores)
    return best if first == last else _thinned(sample, best, last, {(): alone[last]})


def agreement(sample: Sample) -> Floats:
    """Return the chance-corrected agreement of every two functions, float64[m, m].

    The larger of two: on rows where both vote, and on all rows with silence as an answer: the
    second sees copies among functions that know one class only.
    """
    patterns = sample.patterns
    outcomes = [patterns == label for label in range(sample.n_classes)]
    outcomes += [patterns == -2 - number for number in range(len(sample.sets.sets))]
    both = _kappa(outcomes, patterns != -1, sample.weights)
    every = _kappa([*outcomes, patterns == -1], np.ones(patterns.shape, bool), sample.weights)
    return np.maximum(both, every)


def joined(alike: Floats, least: float = _LEAST_AGREEMENT) -> Iterator[Groups]:
    """Yield the groups after each step of average linkage, the most alike first."""
    members: list[tuple[int, ...]] = [(function,) for function in range(len(alike))]
    linkage = alike.copy()
    np.fill_diagonal(linkage, -np.inf)
    while len(members) > 1:
        one, other = sorted(divmod(int(np.argmax(linkage)), len(members)))
        if linkage[one, other] < least:
            return
        sizes = len(members[one]), len(members[other])
        mean = (sizes[0] * linkage[one] + sizes[1] * linkage[other]) / sum(sizes)
        linkage[one], linkage[:, one] = mean, mean
        linkage[one, one] = -np.inf
        linkage = np.delete(np.delete(linkage, other, axis=0), other, axis=1)
        members[one] = tuple(sorted(members[one] + members[other]))
        del members[other]
        yield tuple(sorted(group for group in members if len(group) > 1))


def misfit(sample: Sample, model: LabelModel) -> float:
    """Return by how much two functions agree more or less often than a model says, 0 to 1.

    The mean over pairs of the difference in the share of rows, on rows where both vote, weighted
    by those rows, less what chance alone would give. An anchored model is not asked about
    functions that always say the same: these agree as often as any model says.
    """
    patterns, k = sample.patterns, sample.n_classes
    functions = patterns.shape[1]
    if not functions or not model.emissions:  # nothing is said of any function
        return 0.0
    posterior = model.posterior(sample.pack(model.groups))
    says = np.stack([model.conditional(function)[:, :k] for function in range(functions)])
    says = says / np.maximum(says.sum(axis=2, keepdims=True), 1e-12)
    voted = (patterns >= 0).astype(np.float64)
    expected, equal = np.zeros((functions, functions)), np.zeros((functions, functions))
    for label in range(k):
        mass = voted.T @ (voted * (sample.weights * posterior[:, label])[:, None])
        expected += mass * (says[:, label] @ says[:, label].T)
        hit = (patterns == label).astype(np.float64)
        equal += hit.T @ (hit * sample.weights[:, None])
    common = voted.T @ (voted * sample.weights[:, None])
    for group in model.groups:  # within a group the source explains more than the class does
        common[np.ix_(group, group)] = 0
    np.fill_diagonal(common, 0)
    if model.method.startswith(ANCHORED):
        alike = [len(np.unique(column[column >= 0])) < 2 for column in patterns.T]
        common[alike] = common[:, alike] = 0
    enough = common >= _LEAST_COMMON_ROWS
    if not enough.any():
        return 0.0
    rows = common[enough]
    share = expected[enough] / rows
    excess = (equal[enough] / rows - share) ** 2 - np.clip(share * (1 - share), 0, 1) / rows
    return float(np.sqrt(max(0.0, np.average(excess, weights=rows))))


def _score(sample: Sample, groups: Groups, kind: Kind) -> float:
    """Return log likelihood less what the groups must bring."""
    packed = sample.pack(groups)
    return _worth(sample, groups, kind, packed, run_em(packed, kind, _SEARCH))


def _worth(sample: Sample, groups: Groups, kind: Kind, packed: Packed, model: LabelModel) -> float:
    """Return the log likelihood of a model less what its groups must bring."""
    rows = float(sample.weights.sum())
    extra = sum(len(group) - 1 for group in groups)
    price = max(0.5 * np.log(max(rows, 2.0)), _LEAST_GAIN * rows)
    if kind == CONFUSION:
        price += 0.5 * np.log(max(rows, 2.0)) * (sample.n_classes - 1) ** 2 / max(extra, 1)
    return float(log_likelihood(model, packed) - extra * price)


def _thinned(sample: Sample, groups: Groups, kind: Kind, scores: dict[Groups, float]) -> Groups:
    """Drop each group without which the votes are explained as well, the worst first."""
    while groups:
        if groups not in scores:
            scores[groups] = _score(sample, groups, kind)
        fewer = [tuple(other for other in groups if other != group) for group in groups]
        for candidate in fewer:
            if candidate not in scores:
                scores[candidate] = _score(sample, candidate, kind)
        best = max(fewer, key=lambda candidate: scores[candidate])
        if scores[best] < scores[groups]:
            return groups
        groups = best
    return groups


def _kappa(outcomes: list[Bools], seen: Bools, counts: Floats) -> Floats:
    """Return Cohen's kappa of every two functions, float64[m, m]; 0 where little is known."""
    weights = counts[:, None]
    present = seen.astype(np.float64)
    common = present.T @ (present * weights)
    equal = np.zeros(common.shape)
    chance = np.zeros(common.shape)
    safe = np.maximum(common, 1)
    for outcome in outcomes:
        hit = outcome.astype(np.float64)
        equal += hit.T @ (hit * weights)
        share = (hit.T @ (present * weights)) / safe  # of i's votes, on rows where j votes, too
        chance += share * share.T
    known = (common >= _LEAST_COMMON_ROWS) & (chance < 1 - 1e-9)
    kappa = np.zeros(common.shape)
    np.divide(equal / safe - chance, 1 - chance, out=kappa, where=known)
    return kappa
