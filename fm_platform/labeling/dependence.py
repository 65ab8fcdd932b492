"""Which labeling functions copy one another, so that a copy does not count twice.

Functions are joined where their chance-corrected agreement (Cohen 1960) is high, and far above
what each has with the others; each group then votes once. The two thresholds were chosen on
generated votes, 40 % of whose functions copied one: a candidate for dev to judge, not a default.
Where more than half of the functions are copies of one, the median hides them: none is joined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.patterns import Floats, Ints, Votes

Bools = npt.NDArray[np.bool_]

_AGREEMENT = 0.72
_ABOVE_MEDIAN = 0.25
_LEAST_COMMON_ROWS = 30


def components(patterns: Votes, counts: Ints, n_classes: int) -> tuple[tuple[int, ...], ...]:
    """Return groups of functions that copy one another; most are alone. Sorted.

    Args:
        patterns: int8[p, m], unique rows of votes.
        counts: int64[p], how many rows have each pattern.
        n_classes: k.
    """
    m = patterns.shape[1]
    # on rows where both vote, and on all rows with silence as an answer: the second sees copies
    # among functions that know one class only
    outcomes = [patterns == label for label in range(n_classes)]
    both = _agreement(outcomes, patterns >= 0, counts)
    every = _agreement([*outcomes, patterns < 0], np.ones(patterns.shape, bool), counts)
    agreement = np.maximum(both, every)
    off_diagonal = np.where(np.eye(m, dtype=bool), np.nan, agreement)
    median = np.nanmedian(off_diagonal, axis=1) if m > 2 else np.zeros(m)
    group = list(range(m))
    for i in range(m):
        for j in range(i):
            high = agreement[i, j] > _AGREEMENT
            if high and agreement[i, j] >= max(median[i], median[j]) + _ABOVE_MEDIAN:
                old, new = group[i], group[j]
                group = [new if item == old else item for item in group]
    members: dict[int, list[int]] = {}
    for function, label in enumerate(group):
        members.setdefault(label, []).append(function)
    return tuple(sorted(tuple(listed) for listed in members.values()))


def collapse(votes: Votes, groups: Sequence[Sequence[int]], n_classes: int) -> Votes:
    """Return int8[n, groups]: the majority of each group; a tie abstains."""
    columns = []
    for members in groups:
        if len(members) == 1:
            columns.append(votes[:, members[0]])
            continue
        own = votes[:, list(members)]
        tally = np.stack([(own == label).sum(axis=1) for label in range(n_classes)], axis=1)
        best = tally.max(axis=1)
        clear = (best > 0) & ((tally == best[:, None]).sum(axis=1) == 1)
        columns.append(np.where(clear, tally.argmax(axis=1), -1).astype(np.int8))
    return np.stack(columns, axis=1) if columns else np.zeros((len(votes), 0), np.int8)


def _agreement(outcomes: Sequence[Bools], seen: Bools, counts: Ints) -> Floats:
    """Return Cohen's kappa of every two functions, float64[m, m]; 0 where little is known."""
    weights = counts.astype(np.float64)[:, None]
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
