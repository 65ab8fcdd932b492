"""Groups of texts alike, each named by the words that set it apart from the others.

The groups are k-means in the frozen embedding, on a bounded sample. Words are ranked by the log
odds of occurring in the group against everywhere else, in standard deviations, with the words of
all texts as the prior (Monroe, Colaresi, Quinn 2008, "Fightin' Words", equation 22).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"[^\W\d_]{3,24}")
_TERMS = 5
_LEAST_SIZE = 5
_MOST = 8


@dataclass(frozen=True)
class Cluster:
    """Texts alike.

    Attributes:
        terms: Words that set it apart, the most telling first.
        members: Positions of its texts, the most typical first.
    """

    terms: tuple[str, ...]
    members: tuple[int, ...]


def clusters_of(
    vectors: npt.NDArray[np.float32], texts: Sequence[str], seed: int, others: Sequence[str] = ()
) -> list[Cluster]:
    """Return groups of at least five texts alike, the largest first.

    Args:
        vectors: float32[n, d], embeddings.
        texts: n texts.
        seed: Of k-means.
        others: More texts that a group is set apart from, where it is the only one.
    """
    n = len(texts)
    if n < _LEAST_SIZE:
        return []
    from sklearn.cluster import KMeans

    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    different = len(np.unique(unit.round(5), axis=0))
    count = max(1, min(_MOST, n // (3 * _LEAST_SIZE), different))
    fit = KMeans(count, n_init=4, random_state=seed).fit(unit.astype(np.float64))
    words = [set(_WORD.findall(text.casefold())) for text in texts]
    apart = [set(_WORD.findall(text.casefold())) for text in others]
    everywhere = Counter(word for text in [*words, *apart] for word in text)
    found = []
    for number in range(count):
        members = np.flatnonzero(fit.labels_ == number)
        if len(members) < _LEAST_SIZE:
            continue
        near = unit[members] @ fit.cluster_centers_[number]
        typical = members[np.lexsort((members, -near))]
        own = Counter(word for i in members.tolist() for word in words[i])
        found.append(
            Cluster(_terms(own, everywhere, len(members), n + len(apart)), tuple(typical.tolist()))
        )
    return sorted(found, key=lambda one: (-len(one.members), one.members))


def _terms(own: Counter[str], everywhere: Counter[str], size: int, total: int) -> tuple[str, ...]:
    """Return the words whose share of texts is surest to be larger here than elsewhere."""
    scores = {}
    for word, here in own.items():
        prior = everywhere[word] / total
        there = everywhere[word] - here
        one, other = here + prior, there + prior
        odds = np.log(one / (size - here + 1)) - np.log(other / (total - size - there + 1))
        scores[word] = float(odds / np.sqrt(1 / one + 1 / other))
    ranked = sorted(scores, key=lambda word: (-scores[word], word))
    return tuple(word for word in ranked[:_TERMS] if own[word] > 1 and scores[word] > 0)
