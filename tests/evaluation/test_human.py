"""One random rater per row: fair, seeded, robust to missing ratings."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fm_platform.evaluation.human import one_random_rater

CLASSES = ("negative", "neutral", "positive")


def test_unanimous_raters_give_their_label_and_missing_ones_none() -> None:
    raters = pa.array([["neutral"] * 20, None, [], ["positive", "positive"], ["other"]])

    found = one_random_rater(raters, CLASSES, seed=0)

    assert found.labels.tolist() == [1, -1, -1, 2, -1]
    assert found.measured.tolist() == [True, False, False, True, True]


def test_choice_is_uniform_over_the_raters() -> None:
    raters = pa.array([["negative", "neutral", "positive", "positive"]] * 8000)

    counts = np.bincount(one_random_rater(raters, CLASSES, seed=1).labels)

    assert np.abs(counts / 8000 - [0.25, 0.25, 0.5]).max() < 0.02


def test_seed_decides() -> None:
    raters = pa.chunked_array([[["negative", "positive"]] * 50, [["negative", "positive"]] * 50])

    first, again, other = (one_random_rater(raters, CLASSES, seed) for seed in (0, 0, 1))

    assert first.labels.tolist() == again.labels.tolist() != other.labels.tolist()


def test_sliced_arrays_and_nobody_rated() -> None:
    raters = pa.array([["negative"], ["positive"], ["neutral"]]).slice(1)

    assert one_random_rater(raters, CLASSES, 0).labels.tolist() == [2, 1]
    nobody = one_random_rater(pa.nulls(2, pa.list_(pa.string())), CLASSES, 0)
    assert nobody.labels.tolist() == [-1, -1]
    assert not nobody.measured.any()
