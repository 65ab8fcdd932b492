"""What frozen features say of labels, against truths that are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from fm_platform.training.separability import logme, separability

Floats = npt.NDArray[np.float32]


def planted(n: int, d: int, apart: float, seed: int = 0) -> tuple[Floats, Floats]:
    """Return features of two normal classes whose means are `apart`, and one-hot labels."""
    generator = np.random.default_rng([seed, n])
    labels = np.arange(n) % 2
    rows = generator.normal(size=(n, d))
    rows[:, 0] += apart * (labels - 0.5)
    return rows.astype(np.float32), np.eye(2, dtype=np.float32)[labels]


@pytest.mark.parametrize(("n", "d"), [(40, 3), (12, 30)])
def test_logme_is_the_greatest_evidence_of_all_priors_and_noises(n: int, d: int) -> None:
    generator = np.random.default_rng(n)
    features = generator.normal(size=(n, d))
    target = features @ generator.normal(size=d) + generator.normal(scale=0.7, size=n)

    def minus_evidence(logs: npt.NDArray[np.float64]) -> float:
        alpha, beta = np.exp(logs)
        spread = np.eye(n) / beta + features @ features.T / alpha
        return -float(multivariate_normal.logpdf(target, np.zeros(n), spread))

    best = min(
        minimize(minus_evidence, start, method="Nelder-Mead", tol=1e-10).fun
        for start in ([0.0, 0.0], [2.0, -2.0], [-2.0, 2.0])
    )
    assert logme(features, target[:, None]) == pytest.approx(-best / n, abs=1e-5)


def test_logme_likes_features_that_tell_classes_apart() -> None:
    scores = [logme(*planted(300, 8, apart)) for apart in (0.0, 1.0, 3.0)]
    assert scores == sorted(scores)


def test_a_class_that_never_varies_says_nothing() -> None:
    rows, labels = planted(60, 4, 2.0)
    with_constant = np.hstack([labels, np.zeros((60, 1), np.float32)])
    assert logme(rows, with_constant) == pytest.approx(logme(rows, labels))
    assert logme(rows, np.ones((60, 1), np.float32)) == 0.0


def test_a_probe_finds_the_best_accuracy_there_is() -> None:
    train, dev = planted(2000, 5, 2.0), planted(4000, 5, 2.0, seed=1)
    found = separability(*train, *dev, ["a"] * 4000, seed=0)
    assert found.accuracy == pytest.approx(0.841, abs=0.02)  # Phi(1), that of the best classifier
    again = separability(*train, *dev, ["a"] * 4000, seed=0)
    assert found == again


def test_a_probe_of_noise_says_what_is_known_without_it() -> None:
    train, dev = planted(300, 40, 0.0), planted(400, 40, 0.0, seed=1)
    found = separability(*train, *dev, ["a"] * 400, seed=0)
    assert found.loss == pytest.approx(np.log(2), abs=0.05)
    assert found.penalty == 1.0


def test_each_source_counts_the_same() -> None:
    train, (good, labels) = planted(500, 3, 6.0), planted(100, 3, 6.0, seed=1)
    swapped = 1 - labels[:10]
    found = separability(
        *train, np.vstack([good, good[:10]]), np.vstack([labels, swapped]),
        ["many"] * 100 + ["few"] * 10, seed=0,
    )  # fmt: skip
    assert found.accuracy == pytest.approx(0.5, abs=0.02)  # one right, one wrong
