"""Targets are sharpened: the order of the classes stays, and what is not told apart is one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.stages.tables import lists
from fm_platform.training.targets import sharpened


def rows_with(probabilities: list[list[float]], cells: list[list[int] | None] | None = None):  # type: ignore[no-untyped-def]
    columns = {"probabilities": lists(np.array(probabilities, np.float32), pa.float32())}
    if cells is not None:
        columns["cells"] = pa.array(cells, pa.list_(pa.int8()))
    return pa.table(columns)


def told(table: pa.Table) -> np.ndarray:
    return np.array(table["probabilities"].to_pylist())


def test_a_power_of_two_squares_and_sums_to_one_again() -> None:
    found = sharpened(rows_with([[0.6, 0.3, 0.1], [1.0, 0.0, 0.0]]), 2)

    assert told(found)[0] == pytest.approx(np.array([0.36, 0.09, 0.01]) / 0.46)
    assert told(found)[1].tolist() == [1.0, 0.0, 0.0]


def test_one_changes_nothing() -> None:
    rows = rows_with([[0.5, 0.5]])

    assert sharpened(rows, 1.0) is rows


def test_classes_that_a_label_does_not_tell_apart_are_sharpened_as_one() -> None:
    rows = rows_with([[0.3, 0.3, 0.4], [0.3, 0.3, 0.4]], [[0, 0, 2], None])

    together, apart = told(sharpened(rows, 3))

    assert together[:2].sum() == pytest.approx(0.6**3 / (0.6**3 + 0.4**3))
    assert together[0] == pytest.approx(together[1])
    assert apart.argmax() == 2


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.floats(1, 64))
def test_the_order_stays_and_the_best_gains(weights: list[float], power: float) -> None:
    before = np.array(weights) / sum(weights)

    after = told(sharpened(rows_with([before.tolist()]), power))[0]

    assert after.sum() == pytest.approx(1, abs=1e-5)
    assert after[before.argmax()] >= before.max() - 1e-6
