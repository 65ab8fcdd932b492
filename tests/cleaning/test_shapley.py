"""Shapley values against their definition, and planted wrong labels."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from fm_platform.cleaning.shapley import knn_shapley, unit


def score(train: np.ndarray, labels: np.ndarray, row: np.ndarray, label: int, k: int) -> float:
    order = np.argsort(-(unit(train) @ row), kind="stable")[:k] if len(train) else []
    return float(sum(labels[i, label] for i in order) / k)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_values_are_the_mean_gain_over_all_orders(k: int) -> None:
    generator = np.random.default_rng(3)
    train = generator.normal(size=(5, 3)).astype(np.float32)
    labels = generator.dirichlet(np.ones(2), 5)
    dev, dev_labels = generator.normal(size=(2, 3)).astype(np.float32), np.array([0, 1])

    direct = np.zeros(5)
    for order in (orders := list(permutations(range(5)))):
        for n, row in enumerate(order):
            for one, label in zip(unit(dev), dev_labels, strict=True):
                before, after = list(order[:n]), list(order[: n + 1])
                gain = score(train[after], labels[after], one, label, k)
                direct[row] += gain - score(train[before], labels[before], one, label, k)

    found = knn_shapley(train, labels, dev, dev_labels, k)
    assert found == pytest.approx(direct / len(orders) / 2)


def test_planted_wrong_labels_are_worth_least() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 500)
    points = generator.normal(size=(500, 8)) + 2.5 * truth[:, None]
    points[:, 0] -= 5 * truth  # other directions, not only other lengths
    wrong = np.zeros(400, bool)
    wrong[:40] = True
    given = np.where(wrong, 1 - truth[:400], truth[:400])
    values = knn_shapley(
        points[:400].astype(np.float32), np.eye(2)[given], points[400:].astype(np.float32),
        truth[400:],
    )  # fmt: skip
    lowest = np.argsort(values)[:40]
    assert wrong[lowest].mean() >= 0.8
