"""Which rows people should look at next: uncertain, in dense regions, disputed, and not alike.

The gain expected of a label is estimated as uncertainty x density x disagreement. Density keeps
outliers out, which uncertainty alone likes (Settles & Craven 2008, "An Analysis of Active Learning
Strategies for Sequence Labeling Tasks", information density). Rows near one that is chosen are
worth less, so that a batch does not ask the same thing many times.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

_FLOOR = 0.25
"""What density and disagreement count where they are least: each is a factor, none is a veto."""
_ENOUGH = 50
_VOTES_WEIGHT = 0.5
_NEIGHBOURS = 20
_REFERENCE = 4_000
_CANDIDATES = 4_000


def uncertainty(probabilities: Floats) -> Floats:
    """Return the entropy of each row in [0, 1], float64[n]; 1 is a uniform distribution.

    Args:
        probabilities: float[n, k].
    """
    p = np.clip(np.asarray(probabilities, np.float64), 1e-12, 1)
    found: Floats = -(p * np.log(p)).sum(axis=1) / np.log(max(p.shape[1], 2))
    return found


def disagreement(one: Floats, other: Floats) -> Floats:
    """Return how far two distributions are apart, in [0, 1] (Jensen-Shannon), float64[n]."""
    between = uncertainty((one + other) / 2) - (uncertainty(one) + uncertainty(other)) / 2
    k = one.shape[1]
    found: Floats = np.clip(between * np.log(k) / np.log(2), 0, 1)
    return found


def density(vectors: Floats, generator: np.random.Generator) -> Floats:
    """Return the mean cosine to the nearest of a sample of rows, scaled to [0, 1], float64[n].

    Args:
        vectors: float32[n, d].
        generator: Draws the sample of at most 4,000 rows.
    """
    n = len(vectors)
    unit = _unit(vectors)
    sample = np.sort(generator.permutation(n)[:_REFERENCE])
    near = min(_NEIGHBOURS, len(sample) - 1)
    if near < 1:
        return np.ones(n)
    found = np.empty(n)
    for start in range(0, n, 1024):
        alike = unit[start : start + 1024] @ unit[sample].T
        # a row of the sample is nearest to itself, which says nothing
        own = (np.arange(start, min(start + 1024, n))[:, None] == sample[None, :]).any(axis=1)
        top = -np.partition(-alike, near, axis=1)[:, : near + 1]
        top = -np.sort(-top, axis=1)
        found[start : start + 1024] = np.where(
            own, top[:, 1:].mean(axis=1), top[:, :near].mean(axis=1)
        )
    span = found.max() - found.min()
    return (found - found.min()) / span if span > 0 else np.ones(n)


def density_of(vectors: Floats, seed: int) -> Floats:
    """Return the density that `choose` uses with a seed, float64[n] in [0, 1]."""
    return density(vectors, np.random.default_rng([seed, 11]))


def choose(
    probabilities: Floats,
    apart: Floats,
    vectors: Floats,
    size: int,
    seed: int,
    answered: npt.NDArray[np.int64] | None = None,
    closed: npt.NDArray[np.int64] | None = None,
    dense: Floats | None = None,
    worth: Floats | None = None,
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the rows to ask next, best first, and the gain expected of each when it was chosen.

    Args:
        probabilities: float[n, k], what is believed of each row.
        apart: float[n] in [0, 1], how much those who say something disagree.
        vectors: float32[n, d], embeddings.
        size: How many at most.
        seed: Of the sample for density.
        answered: Positions of rows that have an answer: rows near them are worth less.
        closed: Positions that are not chosen; those that have an answer, where it is not given.
        dense: float64[n], as of `density_of`, where it is known already.
        worth: float[n], what a row counts beside its gain; None: all the same.
    """
    n = len(probabilities)
    dense = density_of(vectors, seed) if dense is None else dense
    gain = uncertainty(probabilities) * (_FLOOR + dense) * (1 + np.asarray(apart, np.float64))
    gain = gain if worth is None else gain * worth
    done = np.zeros(0, np.int64) if answered is None else answered
    allowed = np.ones(n, np.bool_)
    allowed[done if closed is None else closed] = False
    left = np.flatnonzero(allowed)
    # ties by position: the same rows give the same queue
    pool = left[np.lexsort((left, -gain[left]))][:_CANDIDATES]
    unit = _unit(vectors)
    left_of = gain[pool].copy()
    for start in range(0, len(done), 1024):
        alike = np.clip(unit[pool] @ unit[done[start : start + 1024]].T, 0, 1)
        left_of *= np.prod(1 - alike**2, axis=1)
    chosen, values = [], []
    open_ = np.ones(len(pool), np.bool_)
    for _ in range(min(size, len(pool))):
        best = int(np.where(open_, left_of, -1.0).argmax())
        chosen.append(int(pool[best]))
        values.append(float(left_of[best]))
        open_[best] = False
        left_of *= 1 - np.clip(unit[pool] @ unit[pool[best]], 0, 1) ** 2
    return np.array(chosen, np.int64), np.array(values)


def _unit(vectors: Floats) -> Floats:
    whole = np.asarray(vectors, np.float32)
    found: Floats = whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)
    return found


def features(vectors: Floats, votes: npt.NDArray[np.int8], k: int) -> Floats:
    """Return embeddings and, with half the weight, which class each function votes, float32[n, f].

    Args:
        vectors: float32[n, d].
        votes: int8[n, m]; sets of classes and abstentions count as nothing.
        k: Number of classes.
    """
    hot = (votes[:, :, None] == np.arange(k, dtype=np.int8)).reshape(len(votes), -1)
    found: Floats = np.concatenate([_unit(vectors), _VOTES_WEIGHT * hot], 1, dtype=np.float32)
    return found


def belief(
    weak: Floats,
    seen: Floats,
    answered: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
) -> Floats:
    """Return what is believed of each row: the weak labels, until people's answers tell more.

    From 50 answers of two or more classes on, a soft-max classifier on them.

    Args:
        weak: float[n, k], probabilities of the label model.
        seen: float32[n, f], as of `features`.
        answered: Positions of rows with an answer.
        labels: Their classes.
    """
    if len(answered) < _ENOUGH or len(set(labels.tolist())) < 2:
        return weak
    from sklearn.linear_model import LogisticRegression

    fit = LogisticRegression(C=5.0, max_iter=300).fit(seen[answered], labels)
    told = np.zeros(weak.shape)
    told[:, fit.classes_] = fit.predict_proba(seen)
    return told
