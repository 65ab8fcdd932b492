"""Which of its rows a training takes, where a share of them is declared."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fm_platform.errors import TrainingError
from fm_platform.numerics import one_thread
from fm_platform.spec.training import Training
from fm_platform.training.data import Encoded, take
from fm_platform.training.objective import certainty

MOST = 4096
"""Rows that are compared with each other at most: more are parted first."""
Matrix = npt.NDArray[np.float32]
Vectors = Callable[[Sequence[str]], Matrix]
"""Row ids -> their embeddings, float32[n, d]."""


def fewer(rows: Encoded, config: Training, vectors: Vectors | None = None) -> Encoded:
    """Return the declared share of the rows of each source, at least one; their order stays.

    By coverage: the rows that stand best for all of their source, see `covering`. By certainty:
    of each source and most probable class the rows whose label is surest.

    Args:
        rows: What training would take.
        config: Its subset, subset_by and seed.
        vectors: Gives embeddings; asked only for coverage.

    Raises:
        TrainingError: If coverage is declared and there are no embeddings.
    """
    if config.subset == 1 or not len(rows):
        return rows
    sources = np.array(rows.sources, dtype=object)
    groups = [np.flatnonzero(sources == name) for name in sorted(set(rows.sources))]
    if config.subset_by == "certainty":
        return take(rows, _surest(rows, groups, config.subset))
    if vectors is None:
        raise TrainingError(
            "rows are chosen by coverage of embeddings, and there are none",
            next_step="declare training.subset_by: certainty",
        )
    found = vectors(rows.row_ids)
    kept: list[int] = []
    for members in groups:
        generator = np.random.default_rng([config.seed, 8])
        parts = np.array_split(generator.permutation(members), -(-len(members) // MOST))
        for part in parts:
            own = np.sort(part)
            kept += own[covering(found[own], _count(len(own), config.subset))].tolist()
    return take(rows, sorted(kept))


def covering(vectors: Matrix, count: int) -> list[int]:
    """Return positions of the rows that stand best for all, in the order in which they add most.

    Greedy facility location (Nemhauser et al. 1978): each next row is the one that adds most to
    the sum over all rows of their likeness (1 + cosine) to the nearest chosen one; of equal ones
    the first. Gains only shrink, so most need not be computed again (Minoux 1978). Memory is
    quadratic in the rows.

    Args:
        vectors: float32[n, d].
        count: Rows to choose, at most n.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    with one_thread():
        alike = 1.0 + (unit @ unit.T).astype(np.float64)
    best = np.zeros(len(alike))
    heap = [(-gain, i) for i, gain in enumerate(np.maximum(alike, 0.0).sum(axis=1).tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < min(count, len(alike)):
        _, i = heapq.heappop(heap)
        now = (-float(np.maximum(alike[i] - best, 0.0).sum()), i)
        if heap and now > heap[0]:
            heapq.heappush(heap, now)
            continue
        chosen.append(i)
        best = np.maximum(best, alike[i])
    return chosen


def _surest(rows: Encoded, groups: Sequence[npt.NDArray[np.int64]], share: float) -> list[int]:
    sure, most = certainty(rows), rows.targets.argmax(axis=1)
    kept: list[int] = []
    for members in groups:
        for told in np.unique(most[members]).tolist():
            own = members[most[members] == told]
            order = np.argsort(-sure[own], kind="stable")
            kept += own[order[: _count(len(own), share)]].tolist()
    return sorted(kept)


def _count(rows: int, share: float) -> int:
    return max(1, round(share * rows))
