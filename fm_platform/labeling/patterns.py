"""Vote matrices: unique patterns and one-hot form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Votes = npt.NDArray[np.int8]
"""int8[n, m]: class index of each row and function, -1 where it abstains."""

_CODES = 2**63 - 1


def unique_patterns(votes: Votes, n_classes: int) -> tuple[Votes, Ints, Ints]:
    """Return the different rows in lexicographic order, where each row went, and how often.

    A row is one number to the base of k + 1 where that fits 63 bits: sorting numbers takes a
    fraction of the time of sorting rows.

    Args:
        votes: int8[n, m], -1 to k - 1.
        n_classes: k.

    Returns:
        int8[p, m], int64[n] positions, int64[p] counts.

    Raises:
        ValueError: If a vote is no class.
    """
    if votes.size and not (votes.min() >= -1 and votes.max() < n_classes):
        raise ValueError(f"votes must lie between -1 and {n_classes - 1}")
    m = votes.shape[1]
    base = n_classes + 1
    if base**m > _CODES:
        patterns, inverse, counts = np.unique(
            votes, axis=0, return_inverse=True, return_counts=True
        )
        return patterns, inverse.reshape(-1), counts
    codes = np.zeros(len(votes), np.int64)
    for j in range(m):
        codes *= base
        codes += votes[:, j] + np.int64(1)
    found, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    patterns = np.empty((len(found), m), np.int8)
    for j in range(m - 1, -1, -1):
        found, digit = np.divmod(found, base)
        patterns[:, j] = digit - 1
    return patterns, inverse.reshape(-1), counts


def one_hot(patterns: Votes, n_classes: int) -> Floats:
    """Return float64[n, m * k]: 1 where function j votes v, so that EM steps are products."""
    n, m = patterns.shape
    hot = patterns[:, :, None] == np.arange(n_classes, dtype=np.int8)
    flat: Floats = hot.reshape(n, m * n_classes).astype(np.float64)
    return flat
