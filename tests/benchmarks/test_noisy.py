"""The benchmark of noisy labels: what it plants, and how it adds up."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.noisy import noisy, table
from fm_platform.stages import tables


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_the_declared_share_of_rows_gets_another_most_probable_class(share: float) -> None:
    told = np.random.default_rng(0).dirichlet(np.ones(3), 200).astype(np.float32)
    rows = pa.table({"probabilities": tables.lists(told, pa.float32())})

    found = tables.matrix(noisy(rows, share, 0)["probabilities"])

    other = found.argmax(axis=1) != told.argmax(axis=1)
    assert other.sum() == round(share * 200)
    assert np.array_equal(np.sort(found, axis=1), np.sort(told, axis=1))
    assert np.array_equal(found[~other], told[~other])


def test_seeds_are_shown_as_mean_and_spread() -> None:
    told = table({"soft": {"0.2": [0.5, 0.7], "0.4": [0.4, 0.4]}})

    assert "0.600 ±0.100" in told
    assert "0.400 ±0.000" in told
