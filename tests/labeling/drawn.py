"""Votes of which the truth is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.patterns import Ints, Votes


def independent(
    n: int, accuracies: list[float], prior: float, seed: int = 0, coverage: float = 0.6
) -> tuple[Votes, npt.NDArray[np.int64]]:
    """Return votes and truth of binary rows with conditionally independent functions."""
    generator = np.random.default_rng(seed)
    truth = (generator.random(n) < prior).astype(np.int64)
    right = generator.random((n, len(accuracies))) < np.array(accuracies)
    votes = np.where(right, truth[:, None], 1 - truth[:, None])
    voted = generator.random(votes.shape) < coverage
    return np.where(voted, votes, -1).astype(np.int8), truth


def with_copies(votes: Votes, function: int, copies: int, noise: float = 0.05) -> Votes:
    """Return votes with more functions that say what one says, but for some noise."""
    generator = np.random.default_rng(1)
    same = np.repeat(votes[:, function : function + 1], copies, axis=1)
    flipped = (generator.random(same.shape) < noise) & (same >= 0)
    return np.concatenate([votes, np.where(flipped, 1 - same, same)], axis=1)


def accuracy(told: npt.NDArray[np.floating], truth: Ints) -> float:
    """Return the share of rows whose most probable class is the truth."""
    return float((told.argmax(axis=1) == truth).mean())
