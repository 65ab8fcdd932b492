"""Whether a label model can be believed where functions do not know all classes.

What people know of a function is what it was written for. Where each says all classes, votes alone
show which are right, also against the others. Where functions know some of the classes, models that
explain the votes as well, or better, may mean something else by their classes: one class that
explains all functions that always say the same, or where people write much and where little.
"""

from __future__ import annotations

import numpy as np

from fm_platform.labeling.candidates import Part
from fm_platform.labeling.parameters import SILENCE, majority_vote

_TELLING = 3
"""Functions that must say several classes each for their agreement to show who is right."""
# fixed by benchmarks/label_anchors.py
_MOST_CONTRADICTION = 0.1
_MOST_SHIFT = 0.15


def knowledge(part: Part) -> tuple[bool, bool]:
    """Return whether some functions do not know all classes, and whether hardly one tells them.

    What a function says, once it votes, tells nothing where it always says the same: one hidden
    class explains such votes without a mistake. Where it votes is what it has to tell then, and
    agreement shows who is right only among functions that say several classes each.
    """
    possible = [*range(part.sample.n_classes)]
    possible += [-2 - number for number in range(len(part.sample.sets.sets))]
    answers = np.sum([(part.patterns == answer).any(axis=0) for answer in possible], axis=0)
    telling = int((answers > 1).sum())
    return bool((answers < part.sample.n_classes).any()), bool(
        (answers == 1).any() and telling < _TELLING
    )


def believable(part: Part, method: str) -> bool:
    """Whether the classes of a model are those that functions were written for.

    It may take some votes for other classes than they say. One that also explains silence must
    besides find the classes about as common as majority vote does.
    """
    if contradiction(part, method) > _MOST_CONTRADICTION:
        return False
    return not method.startswith(SILENCE) or shift(part, method) <= _MOST_SHIFT


def contradiction(part: Part, method: str) -> float:
    """Return the share of votes that a model mostly takes for another class than they say.

    A vote counts so where the model finds, among all rows on which its function says the same,
    more of another class.
    """
    sample = part.sample
    believed = part.models[method].predict(sample.patterns, sample.sets) * sample.weights[:, None]
    votes = np.stack([(sample.patterns == c).T @ believed for c in range(sample.n_classes)])
    meant = np.arange(sample.n_classes)[:, None]
    wrong = votes.argmax(axis=2) != meant
    return float(votes[wrong].sum()) / max(float(votes.sum()), 1e-12)


def shift(part: Part, method: str) -> float:
    """Return how far a model moves the shares of the classes from majority vote, 0 to 1.

    The total variation distance, on rows with a vote.
    """
    sample = part.sample
    voted = (sample.patterns != -1).any(axis=1)
    rows, weights, k = sample.patterns[voted], sample.weights[voted], sample.n_classes
    if not len(rows):
        return 0.0
    told = part.models[method].predict(rows, sample.sets).argmax(axis=1)
    most = majority_vote(rows, k, sets=sample.sets).argmax(axis=1)
    one, other = (np.bincount(labels, weights, k) / weights.sum() for labels in (told, most))
    return float(np.abs(one - other).sum() / 2)
