"""How well frozen features tell classes apart: a linear probe on held-out rows, and LogME.

The probe is a soft-max regression (Alain & Bengio 2016, arXiv 1610.01644) whose penalty is chosen
by cross-validation on its own rows. LogME (You et al. 2021, "LogME: Practical Assessment of
Pre-trained Models for Transfer Learning", arXiv 2102.11005, section 4) needs no held-out rows: it
is the evidence of a Bayesian linear regression on the labels, at the prior and noise that make it
greatest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fm_platform.numerics import one_thread

Matrix = npt.NDArray[np.float64]
_PENALTIES = (1.0, 0.1, 0.01, 0.001)
_FOLDS = 3
_STEPS = 200
_ROUNDS = 100
_TINY = 1e-12


@dataclass(frozen=True)
class Separability:
    """What features say of labels.

    Attributes:
        loss: Expected log loss of the probe on the judged rows, nats, the mean over sources.
        accuracy: Expected accuracy there, in [0, 1], the mean over sources.
        logme: Log evidence for one row, nats; greater is better, without a scale of its own.
        penalty: Of the weights, as chosen by cross-validation.
    """

    loss: float
    accuracy: float
    logme: float
    penalty: float


def separability(
    features: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    judged: npt.NDArray[np.float32],
    judged_targets: npt.NDArray[np.float32],
    sources: Sequence[str],
    seed: int,
) -> Separability:
    """Return how well a linear probe of `features` tells the labels of the judged rows.

    The same arguments give the same bits on one machine type.

    Args:
        features: float32[n, d], of the rows the probe is fitted on.
        targets: float32[n, k], their class probabilities.
        judged: float32[m, d], features of other rows.
        judged_targets: float32[m, k].
        sources: m names.
        seed: Of the folds.
    """
    with one_thread():
        centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
        own = np.asarray((features - centre) / scale, np.float64)
        other = np.asarray((judged - centre) / scale, np.float64)
        towards, true = np.asarray(targets, np.float64), np.asarray(judged_targets, np.float64)
        penalty = _chosen_penalty(own, towards, seed)
        predicted = _predict(_fit(own, towards, penalty), other)
        evidence = logme(features, targets)
    losses = -(true * np.log(np.maximum(predicted, _TINY))).sum(axis=1)
    right = true[np.arange(len(true)), predicted.argmax(axis=1)]
    return Separability(mean_over(losses, sources), mean_over(right, sources), evidence, penalty)


def mean_over(values: npt.NDArray[np.floating], sources: Sequence[str]) -> float:
    """Return the mean over sources of the mean over the rows of each."""
    names = np.array(sources)
    return float(np.mean([values[names == name].mean() for name in sorted(set(sources))]))


def _chosen_penalty(rows: Matrix, targets: Matrix, seed: int) -> float:
    """Return the penalty with the least cross-validated log loss; the greatest of few rows."""
    if len(rows) < 2 * _FOLDS:
        return _PENALTIES[0]
    folds = np.random.default_rng([seed, 13]).permutation(len(rows)) % _FOLDS
    losses = []
    for penalty in _PENALTIES:
        total = 0.0
        for fold in range(_FOLDS):
            inside = folds == fold
            weights = _fit(rows[~inside], targets[~inside], penalty)
            told = np.log(np.maximum(_predict(weights, rows[inside]), _TINY))
            total -= float((targets[inside] * told).sum())
        losses.append(total)
    return _PENALTIES[int(np.argmin(losses))]


def _fit(rows: Matrix, targets: Matrix, penalty: float) -> Matrix:
    """Return float64[d + 1, k]: mean log loss + penalty / 2 of the squared weights is least."""
    from scipy.optimize import minimize

    width, classes = rows.shape[1], targets.shape[1]

    def cost(flat: Matrix) -> tuple[float, Matrix]:
        weights = flat.reshape(width + 1, classes)
        predicted = _predict(weights, rows)
        loss = -float((targets * np.log(np.maximum(predicted, _TINY))).sum()) / len(rows)
        rest = (predicted - targets) / len(rows)
        gradient = np.vstack([rows.T @ rest + penalty * weights[:-1], rest.sum(axis=0)])
        return loss + penalty / 2 * float((weights[:-1] ** 2).sum()), gradient.ravel()

    done = minimize(
        cost, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B",
        options={"maxiter": _STEPS},
    )  # fmt: skip
    return np.asarray(done.x).reshape(width + 1, classes)


def _predict(weights: Matrix, rows: Matrix) -> Matrix:
    scores = rows @ weights[:-1] + weights[-1]
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def logme(features: npt.NDArray[np.floating], targets: npt.NDArray[np.floating]) -> float:
    """Return the maximum log evidence of one row, the mean over the classes; nats.

    For one class, with F the features [n, d] and y its probabilities [n], the weights have the
    prior N(0, I / alpha) and y the noise N(0, 1 / beta). The log evidence is (Bishop 2006,
    "Pattern Recognition and Machine Learning", equation 3.86, as in You et al. 2021)

        L(alpha, beta) = n/2 log beta + d/2 log alpha - n/2 log 2 pi
                         - beta/2 |F m - y|^2 - alpha/2 m'm - 1/2 log |A|,
        A = alpha I + beta F'F,   m = beta A^-1 F'y.

    It is greatest where, with the eigenvalues s of F'F (equations 3.91, 3.92 and 3.95),

        gamma = sum of beta s / (alpha + beta s),
        alpha = gamma / m'm,   1 / beta = |F m - y|^2 / (n - gamma),

    which are repeated until they stand still. Classes whose probability is the same in every row
    are left out: nothing is to be told of them.

    Args:
        features: float[n, d].
        targets: float[n, k].
    """
    rows = np.asarray(features, np.float64)
    u, singular, _ = np.linalg.svd(rows, full_matrices=False)
    found = [
        _evidence(u.T @ column, singular**2, float(column @ column), rows.shape)
        for column in np.asarray(targets, np.float64).T
        if np.ptp(column) > _TINY
    ]
    return float(np.mean(found)) if found else 0.0


def _evidence(along: Matrix, s: Matrix, square: float, shape: tuple[int, ...]) -> float:
    """Return the maximum log evidence of one row for one class.

    Args:
        along: float64[r], y along the left singular vectors of F.
        s: float64[r], the squared singular values; the other d - r eigenvalues are 0.
        square: y'y.
        shape: (n, d).
    """
    n, d = shape
    outside = max(square - float(along @ along), 0.0)  # of y, in no direction of F
    alpha = beta = 1.0
    for _ in range(_ROUNDS):
        lengths, missed, gamma = _moments(along, s, outside, alpha, beta)
        before = alpha / beta
        alpha = gamma / max(lengths, _TINY)
        beta = max(n - gamma, _TINY) / max(missed, _TINY)
        if abs(alpha / beta - before) <= 1e-6 * before:
            break
    lengths, missed, _ = _moments(along, s, outside, alpha, beta)
    log_a = float(np.log(alpha + beta * s).sum()) + (d - len(s)) * np.log(alpha)
    told = n / 2 * np.log(beta) + d / 2 * np.log(alpha) - n / 2 * np.log(2 * np.pi)
    return float(told - beta / 2 * missed - alpha / 2 * lengths - log_a / 2) / n


def _moments(
    along: Matrix, s: Matrix, outside: float, alpha: float, beta: float
) -> tuple[float, float, float]:
    """Return m'm, |F m - y|^2 and gamma."""
    shrunk = beta * s / (alpha + beta * s)
    lengths = float((beta**2 * s * along**2 / (alpha + beta * s) ** 2).sum())
    missed = float(((1 - shrunk) ** 2 * along**2).sum()) + outside
    return lengths, missed, float(shrunk.sum())
