"""The benchmark of quality: its arithmetic on rows that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.quality import SOURCES, Rows, f1, relabeled, table
from fm_platform.stages import tables


def test_f1_is_weighted_by_support_and_kept_apart_by_source() -> None:
    sources = np.repeat(np.array(SOURCES, dtype=object), 3)
    labels = np.array([0, 0, 1] * 4)
    told = np.array([0, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 1])

    found = f1(labels, told, sources)

    # movies: class 0 has precision 2/3 and recall 1, class 1 is never found
    assert found == pytest.approx((1.0, 0.8 * 2 / 3, 0.5 / 3, 2 / 3 * 2 / 3 + 2 / 3 / 3))


def test_relabeled_rows_get_the_vote_shares_of_their_own_row() -> None:
    nothing = np.zeros(0, np.int64)
    weak = pa.table({"row_id": ["a", "b", "c"]})
    votes = np.array([[0, 0], [1, -1], [0, 1]], np.int8)
    rows = Rows(weak, ["f", "g"], {}, votes, nothing, nothing, nothing, nothing, nothing)
    probabilities = tables.lists(np.full((2, 2), 0.5, np.float32), pa.float32())
    cleaned = pa.table({"row_id": ["c", "b"], "probabilities": probabilities})

    found = relabeled(cleaned, rows, 2)

    assert found["probabilities"].to_pylist() == [[0.5, 0.5], [0.0, 1.0]]


def test_several_seeds_are_shown_with_their_spread() -> None:
    told = table({"merged model": [(0.9, 0.7, 0.7, 0.6), (0.8, 0.7, 0.7, 0.6)]})

    assert "0.850 ±0.050" in told
