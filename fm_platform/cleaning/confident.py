"""Which labels are wrong, told from predictions that never saw them.

A cheap head is fitted on frozen embeddings, each row predicted by a head that did not see it.
Counting where it is confident gives how often each class is mistaken for each other (confident
learning: Northcutt, Jiang, Chuang, JAIR 2021). With that, label and prediction together give each
row the probability of every class by Bayes' rule; the head is then fitted again on these, and the
counts are settled with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fm_platform.numerics import one_thread

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
_TEMPERATURES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)
"""A head that was fitted to labels of which some are wrong is far too unsure of the right ones."""
_STILL = 2e-3
"""Mean change of a probability below which what is believed stays."""


@dataclass(frozen=True)
class Judged:
    """What is known of the labels of n rows.

    Attributes:
        probabilities: float64[n, k], of every class, from label and prediction.
        predicted: float64[n, k], of the head alone, which did not see the row.
        confusion: float64[k, k], row `true`, column `given`: how often a class is labeled so.
    """

    probabilities: Matrix
    predicted: Matrix
    confusion: Matrix


def judge(
    embeddings: npt.NDArray[np.float32],
    labels: Labels,
    folds: Labels,
    classes: int,
    *,
    rounds: int = 10,
    inverse_regularization: float = 0.01,
) -> Judged:
    """Return the probability of every class for every row.

    Args:
        embeddings: float32[n, d], frozen.
        labels: int64[n], the given classes.
        folds: int64[n], the fold of each row, from 0; rows of a fold are predicted by the others.
        classes: k.
        rounds: Fits of the head at most; after the first on what is believed, until that stays.
        inverse_regularization: Of the head: logistic regression.
    """
    given = np.eye(classes)[labels]
    believed = predicted = given
    confusion = np.eye(classes)
    heads = _Heads(embeddings, folds, classes, inverse_regularization)
    for nth in range(max(rounds, 1)):
        with one_thread():
            predicted = heads.out_of_fold(believed)
        if nth == 0:
            confusion = _confusion(predicted, labels, classes)
        else:
            predicted = _sharpened(predicted, confusion, labels)
            confusion = _settled(predicted, confusion, given, labels)
        before, believed = believed, _by_bayes(predicted, confusion, labels)
        if float(np.abs(believed - before).mean()) < _STILL:
            break
    return Judged(believed, predicted, confusion)


def _by_bayes(predicted: Matrix, confusion: Matrix, labels: Labels) -> Matrix:
    joint = predicted * confusion[:, labels].T
    found: Matrix = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-12)
    return found


def _sharpened(predicted: Matrix, confusion: Matrix, labels: Labels) -> Matrix:
    """Return predictions at the temperature under which the given labels are likeliest."""
    logs = np.log(np.maximum(predicted, 1e-9))
    rows = np.arange(len(labels))
    tried = [_softmax(logs / temperature) for temperature in _TEMPERATURES]
    likely = [np.log(np.maximum((p @ confusion)[rows, labels], 1e-9)).sum() for p in tried]
    return tried[int(np.argmax(likely))]


def _settled(predicted: Matrix, confusion: Matrix, given: Matrix, labels: Labels) -> Matrix:
    """Return the confusion that agrees with what is believed under it (a few steps of EM)."""
    for _ in range(10):
        believed = _by_bayes(predicted, confusion, labels)
        counts = believed.T @ given + np.eye(given.shape[1])
        confusion = counts / counts.sum(axis=1, keepdims=True)
    return confusion


class _Heads:
    """A head for each fold, fitted on the rows of the others; a later fit goes on from the last."""

    def __init__(
        self, embeddings: npt.NDArray[np.float32], folds: Labels, classes: int, strength: float
    ) -> None:
        centre, scale = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
        self.rows: Matrix = ((embeddings - centre) / scale).astype(np.float64)
        self.strength = strength
        self.inside = [folds == fold for fold in np.unique(folds).tolist()]
        width = self.rows.shape[1] + 1
        self.weights = [np.zeros((width, classes)) for _ in self.inside]

    def out_of_fold(self, targets: Matrix) -> Matrix:
        """Return predictions of heads fitted on soft targets; none saw what it predicts."""
        predicted = np.zeros_like(targets)
        for nth, inside in enumerate(self.inside):
            if inside.all():
                predicted[inside] = targets.mean(axis=0)
                continue
            weights = _fit(self.rows[~inside], targets[~inside], self.strength, self.weights[nth])
            predicted[inside] = _softmax(self.rows[inside] @ weights[:-1] + weights[-1])
            self.weights[nth] = weights
        return predicted


def _fit(rows: Matrix, targets: Matrix, strength: float, begin: Matrix) -> Matrix:
    """Return float64[d + 1, k], the weights of a soft-max regression on soft targets."""
    from scipy.optimize import minimize

    width, classes = rows.shape[1], targets.shape[1]

    def loss(flat: Matrix) -> tuple[float, Matrix]:
        weights = flat.reshape(width + 1, classes)
        predicted = _softmax(rows @ weights[:-1] + weights[-1])
        cost = -float((targets * np.log(np.maximum(predicted, 1e-12))).sum())
        cost += float((weights[:-1] ** 2).sum()) / (2 * strength)
        rest = predicted - targets
        gradient = np.vstack([rows.T @ rest + weights[:-1] / strength, rest.sum(axis=0)])
        return cost / len(rows), gradient.ravel() / len(rows)

    done = minimize(loss, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(done.x).reshape(width + 1, classes)


def _softmax(scores: Matrix) -> Matrix:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _confusion(predicted: Matrix, labels: Labels, classes: int) -> Matrix:
    """Return how a true class is labeled, counted where the prediction is confident.

    A class counts as the true one where its probability is at least its mean over the rows that
    are labeled so, and no other class that reaches its own mean has a greater one.
    """
    means = np.array(
        [predicted[labels == c, c].mean() if (labels == c).any() else 1.0 for c in range(classes)]
    )
    reached = np.where(predicted >= means, predicted, -1.0)
    true = reached.argmax(axis=1)
    sure = reached.max(axis=1) >= 0
    counts = np.full((classes, classes), 1e-9)
    np.add.at(counts, (true[sure], labels[sure]), 1.0)
    counts += np.eye(classes)  # one imagined right label a class
    found: Matrix = counts / counts.sum(axis=1, keepdims=True)
    return found
