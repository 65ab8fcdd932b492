"""Whether one way to merge is better than another: rows that people labeled decide.

A search finds the weights that fit weak labels best, and what fits them better may be their
errors: on the shipped project the differences that merges make to the loss of weak labels do not
correlate with those that they make to the loss of people's labels (-0.24 to 0.15, 186 rows). So a
search only proposes. A proposal takes the place of equal weights where the rows that people
labeled show it to be better, with all proposals held together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LEAST_ROWS = 20
"""Of a source: fewer do not tell how much its losses vary."""
LEVEL = 0.95
_DRAWS = 2000


@dataclass(frozen=True)
class Verdict:
    """How much better a candidate is than what it would replace.

    Attributes:
        gain: By how many nats its loss is less, the mean over sources of their mean.
        at_least: Lower bound of the gain; all bounds hold together with probability `LEVEL`.
    """

    gain: float
    at_least: float


def compared(
    reference: Floats, candidates: Sequence[Floats], sources: Sequence[str], seed: int = 0
) -> list[Verdict]:
    """Hold candidates against a reference on the same rows.

    The bounds are those of the largest studentised mean, with its quantile from a Gaussian
    multiplier bootstrap of the rows within each source (Chernozhukov, Chetverikov & Kato 2013,
    "Gaussian approximations and multiplier bootstrap for maxima of sums"; one step of Romano &
    Wolf 2005): candidates that do nearly the same cost hardly more than one.

    Args:
        reference: Loss of each row in nats, float64[n].
        candidates: The same of each candidate.
        sources: Source of each row; every source counts the same and has at least 2 rows.
        seed: Of the multipliers.

    Returns:
        One for each candidate; one that never differs has gain and bound 0.
    """
    if not candidates:
        return []
    gains = reference - np.stack(candidates)  # [k, n]
    names = np.array(sources, dtype=object)
    groups = [np.flatnonzero(names == name) for name in sorted(set(sources))]
    gain, variance = np.zeros(len(gains)), np.zeros(len(gains))
    influence = np.zeros_like(gains)  # what each row adds to the error of the mean
    for own in groups:
        mean = gains[:, own].mean(axis=1, keepdims=True)
        gain += mean[:, 0] / len(groups)
        spread = (gains[:, own] - mean) / np.sqrt(len(own) * (len(own) - 1.0)) / len(groups)
        influence[:, own] = spread
        variance += np.square(spread).sum(axis=1)
    error = np.sqrt(variance)
    told = error > 0
    if not told.any():
        return [Verdict(float(g), float(g)) for g in gain]
    draws = np.random.default_rng([seed, 7]).standard_normal((_DRAWS, gains.shape[1]))
    largest = (draws @ (influence[told] / error[told, None]).T).max(axis=1)
    width = float(np.quantile(largest, LEVEL))
    return [Verdict(float(g), float(g - width * e)) for g, e in zip(gain, error, strict=True)]


def best_of(verdicts: Sequence[Verdict]) -> int | None:
    """Return the candidate that is certainly better by the most; None where none certainly is."""
    certain = [i for i, verdict in enumerate(verdicts) if verdict.at_least > 0]
    return max(certain, key=lambda i: verdicts[i].at_least, default=None)
