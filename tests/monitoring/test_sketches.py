"""Sketches answer as the rows would, and merging them is counting all rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from fm_platform.monitoring.sketches import (
    CategorySketch,
    MomentSketch,
    NumericSketch,
    ks_distance,
    merge,
    psi,
    total_variation,
)

numbers = st.lists(st.integers(-20, 20), min_size=1, max_size=60)


@given(numbers, numbers)
def test_the_distance_of_few_values_is_exact(first: list[int], second: list[int]) -> None:
    a, b = np.array(first, float), np.array(second, float)

    found = ks_distance(NumericSketch.of(a), NumericSketch.of(b))

    assert found == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(16, 64), st.sampled_from(["normal", "steps", "cut"]))
def test_the_error_of_a_sketch_is_as_large_as_it_says(seed: int, size: int, shape: str) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=900), generator.normal(0.3, 1.2, size=700)
    if shape == "steps":
        a, b = np.round(a * 3), np.where(b > 0, 0.0, b)
    if shape == "cut":
        b = b[b > 0]
    first, second = NumericSketch.of(a, size), NumericSketch.of(b, size)

    wrong = abs(ks_distance(first, second) - ks_2samp(a, b).statistic)

    assert wrong <= first.error + second.error + 1e-12
    assert first.error <= 1 / size + 1 / len(a)


def test_merged_days_differ_from_all_rows_by_less_than_the_stated_error() -> None:
    generator = np.random.default_rng(1)
    days = [generator.gamma(2.0, 1.0 + day / 10, size=4_000) for day in range(6)]
    other = generator.gamma(2.2, 1.3, size=9_000)

    merged = merge([NumericSketch.of(day, 512) for day in days], 512)

    assert isinstance(merged, NumericSketch)
    found = ks_distance(merged, NumericSketch.of(other))
    assert abs(found - ks_2samp(np.concatenate(days), other).statistic) <= merged.error < 0.005
    assert merged.mean == pytest.approx(np.concatenate(days).mean())
    assert merged.deviation == pytest.approx(np.concatenate(days).std())


def test_missing_and_infinite_numbers_are_counted_apart() -> None:
    sketch = NumericSketch.of(np.array([1.0, np.nan, np.inf, 3.0]), nulls=2)

    assert (sketch.rows, sketch.nulls, sketch.null_share) == (2, 4, pytest.approx(4 / 6))
    assert sketch.quantile([0.5, 1.0]) == [1.0, 3.0]


def test_merging_counts_all_values_and_bounds_those_it_forgot() -> None:
    first = CategorySketch.of({"a": 5, "b": 3, "c": 1}, 9, keep=2)
    second = CategorySketch.of({"a": 1, "c": 4}, 5, keep=2)

    merged = merge([first, second])

    assert isinstance(merged, CategorySketch)
    assert merged.counts == {"a": 6, "b": 3, "c": 4}
    assert (merged.rows, merged.other, merged.dropped) == (14, 1, 1)
    assert total_variation(first, first) == 0.0


def test_moments_merge_to_those_of_all_rows() -> None:
    rows = np.random.default_rng(2).normal(size=(50, 4))

    merged = merge([MomentSketch.of(rows[:20]), MomentSketch.of(rows[20:])])

    assert isinstance(merged, MomentSketch)
    np.testing.assert_allclose(merged.mean, rows.mean(axis=0))
    np.testing.assert_allclose(merged.covariance, np.cov(rows.T, bias=True))


def test_sketches_of_different_kinds_do_not_merge() -> None:
    with pytest.raises(TypeError, match="different kinds"):
        merge([CategorySketch({}, 0), NumericSketch.of(np.zeros(1))])


def test_the_stability_index_is_nothing_for_the_same_column() -> None:
    sketch = NumericSketch.of(np.arange(1_000.0))

    assert psi(sketch, sketch) == pytest.approx(0.0)
    assert psi(sketch, NumericSketch.of(np.arange(500.0, 1_500.0))) > 0.25
