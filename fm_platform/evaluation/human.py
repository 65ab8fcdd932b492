"""One random human rater per row, as a system to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.evaluation.metrics import SystemPredictions


def one_random_rater(
    rater_labels: pa.Array | pa.ChunkedArray, classes: Sequence[str], seed: int
) -> SystemPredictions:
    """Return the answer of one randomly chosen rater for each row.

    Rows without ratings are not measured. A rating outside the taxonomy is no answer (-1).

    Args:
        rater_labels: list<string>[n], one entry per rater; null where nobody rated.
        classes: Class names, by index.
        seed: Of the choice; the same rows in the same order give the same raters.
    """
    if isinstance(rater_labels, pa.ChunkedArray):
        rater_labels = rater_labels.combine_chunks()
    n = len(rater_labels)
    lengths = pc.fill_null(pc.list_value_length(rater_labels), 0).to_numpy(zero_copy_only=False)
    lengths = lengths.astype(np.int64)
    # One draw for every row, rated or not, so that a missing rating moves no other choice.
    chosen = np.floor(np.random.default_rng(seed).random(n) * lengths).astype(np.int64)
    rated = lengths > 0
    labels = np.full(n, -1, dtype=np.int64)
    if rated.any():
        # list_flatten leaves out null lists, as the lengths above do.
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        picked = pc.list_flatten(rater_labels).take(pa.array((starts + chosen)[rated]))
        index = pc.index_in(picked, value_set=pa.array(list(classes), pa.string()))
        labels[rated] = pc.fill_null(index, -1).to_numpy(zero_copy_only=False)
    return SystemPredictions(labels, None, rated)
