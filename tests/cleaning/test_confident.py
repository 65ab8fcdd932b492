"""Label noise: planted wrong labels are found by heads that did not see them."""

from __future__ import annotations

import numpy as np
import pytest

from fm_platform.cleaning.confident import judge


@pytest.mark.parametrize("classes", [2, 4])
def test_planted_noise_is_at_least_halved(classes: int) -> None:
    rng = np.random.default_rng(classes)
    true = rng.integers(classes, size=600)
    centres = rng.standard_normal((classes, 12)) * 2
    rows = (centres[true] + rng.standard_normal((600, 12))).astype(np.float32)
    wrong = rng.random(600) < 0.15
    given = np.where(wrong, (true + rng.integers(1, classes, 600)) % classes, true)

    judged = judge(rows, given, rng.integers(0, 5, 600), classes)

    believed = judged.probabilities.argmax(axis=1)
    sure = judged.probabilities.max(axis=1) >= 0.7
    corrected = np.where(sure, believed, given)
    assert (corrected != true).mean() <= (given != true).mean() / 2
    assert judged.probabilities.sum(axis=1) == pytest.approx(1)
    assert np.diag(judged.confusion) == pytest.approx(0.85, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_a_head_that_wrong_labels_make_unsure_comes_to_trust_what_it_sees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(2, size=1500)
    way = rng.standard_normal(200)
    rows = np.where(true, 1.7, -1.7)[:, None] * way / np.linalg.norm(way)
    rows = (rows + rng.standard_normal((1500, 200))).astype(np.float32)
    given = np.where(rng.random(1500) < 0.15, 1 - true, true)
    folds = rng.integers(0, 5, 1500)

    def left(rounds: int) -> float:
        believed = judge(rows, given, folds, 2, rounds=rounds).probabilities
        corrected = np.where(believed.max(axis=1) >= 0.7, believed.argmax(axis=1), given)
        return float((corrected != true).sum() / (given != true).sum())

    assert left(10) < left(3) < left(1)
    assert left(10) <= 0.5


def test_right_labels_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(2, size=400)
    rows = (np.where(true, 2, -2)[:, None] + rng.standard_normal((400, 6))).astype(np.float32)

    judged = judge(rows, true, np.arange(400) % 5, 2)

    assert (judged.probabilities.argmax(axis=1) == true).mean() > 0.99


def test_a_single_fold_and_a_missing_class_do_no_harm() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)

    judged = judge(rows, np.zeros(20, np.int64), np.zeros(20, np.int64), 3)

    assert np.isfinite(judged.probabilities).all()
    assert (judged.probabilities.argmax(axis=1) == 0).all()
