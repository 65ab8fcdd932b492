"""What each training row is worth to a nearest-neighbour classifier: its Shapley value, exactly.

Jia et al. 2019, "Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms"
(VLDB 12), theorem 1: with the training rows of one dev row sorted by distance, the value of each
follows from that of the next farther one, so n rows cost one sort. A row whose label is a
distribution matches a dev row as much as it says the dev row's class: the utility is linear in
that, so the theorem holds as it stands.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]


def knn_shapley(
    train: Matrix, labels: Floats, dev: Matrix, dev_labels: npt.NDArray[np.int64], k: int = 10
) -> Floats:
    """Return the value of each training row, float64[n]; they sum to the classifier's score.

    The score is the mean share of a dev row's class among its k nearest training rows.

    Args:
        train: float32[n, d], embeddings; the distance is that of their directions.
        labels: float64[n, c], rows sum to 1.
        dev: float32[g, d].
        dev_labels: int64[g], classes.
        k: Neighbours.

    Raises:
        ValueError: If there is no training row or no dev row.
    """
    n = len(train)
    if not n or not len(dev):
        raise ValueError("there must be training rows and dev rows")
    near, spots = unit(train), np.arange(1, n)
    factor = np.minimum(k, spots) / spots / k
    values = np.zeros(n)
    for row, label in zip(unit(dev), dev_labels.tolist(), strict=True):
        order = np.argsort(-(near @ row), kind="stable")
        match = labels[order, label]
        steps = (match[:-1] - match[1:]) * factor
        last = match[-1] / n * min(k, n) / k
        told = np.append(np.cumsum(steps[::-1])[::-1] + last, last)
        values[order] += told
    return values / len(dev)


def unit(vectors: Matrix) -> Matrix:
    """Return vectors of length 1, float32[n, d]."""
    whole = np.asarray(vectors, np.float32)
    found: Matrix = whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)
    return found
