"""Which classes the votes on a row do not tell apart, after a class was split.

A function that knew only the old class votes for the set of its parts. Where no other vote says
which part it is, the label model can only spread the mass as it is spread elsewhere. Training
must not learn that guess: it sums over the parts (`fm_platform.losses`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.partial import ABSTAIN, FIRST_SET, ClassSets, Votes
from fm_platform.losses import Cells

Floats = npt.NDArray[np.floating]


def cells_of(votes: Votes, sets: ClassSets, split: Sequence[Sequence[int]], k: int) -> Cells:
    """Return for each class of a row the first class that no vote tells it from.

    Classes count as not told apart only where labels of before mean them together (`split`), a
    vote names all of them, and no vote names only some.

    Args:
        votes: int8[n, m].
        sets: What votes below -1 mean.
        split: Sets of class indices, `Taxonomy.sets`.
        k: Number of classes.

    Example:
        >>> votes = np.array([[-2, -1], [-2, 2], [0, -1]], np.int8)  # -2: "1 or 2"
        >>> cells_of(votes, ClassSets(((1, 2),)), [(1, 2)], 3).tolist()
        [[0, 1, 1], [0, 1, 2], [0, 1, 2]]
    """
    cells = np.tile(np.arange(k, dtype=np.int8), (len(votes), 1))
    codes = [*range(k), *(FIRST_SET - i for i in range(len(sets.sets)))]
    for one in split:
        whole, some = np.zeros(256, np.bool_), np.zeros(256, np.bool_)
        for code in codes:
            named = len(set(sets.members(code)) & set(one))
            whole[code + 128], some[code + 128] = named == len(one), 0 < named < len(one)
        whole[ABSTAIN + 128] = some[ABSTAIN + 128] = False
        places = votes.astype(np.int16) + 128
        rows = np.flatnonzero(whole[places].any(axis=1) & ~some[places].any(axis=1))
        own = cells[rows]
        chosen = own[:, list(one)]
        touched = (own[:, :, None] == chosen[:, None, :]).any(axis=2)
        cells[rows] = np.where(touched, chosen.min(axis=1, keepdims=True), own)
    return cells


def best(probabilities: Floats, cells: Cells) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the most probable class of each row's most probable cell, and that cell's mass.

    Args:
        probabilities: float[n, k].
        cells: int8[n, k].
    """
    n, k = probabilities.shape
    mass = np.zeros((n, k), probabilities.dtype)
    for label in range(k):
        mass[np.arange(n), cells[:, label]] += probabilities[:, label]
    winner = mass.argmax(axis=1)
    inside = np.where(cells == winner[:, None], probabilities, -1)
    return inside.argmax(axis=1), mass.max(axis=1)
