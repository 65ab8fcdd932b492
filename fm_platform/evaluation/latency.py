"""How long a model takes to answer one text, and what can be said of it from a sample."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fm_platform.evaluation.constraints import verdict
from fm_platform.evaluation.gate import Requirement
from fm_platform.spec.evaluation import LATENCY_CONFIDENCE, Constraints, Latency

_WARM_UP = 20
_ROUNDS = 3
Floats = npt.NDArray[np.float64]


def answer_times(
    answer: Callable[[str], object],
    texts: Sequence[str],
    clock: Callable[[], float] = time.perf_counter,
) -> Floats:
    """Return how long the answer to each of n texts takes, in milliseconds, float64[n].

    The first texts are answered once before, without a clock. Then all are answered in three
    rounds, and the fastest time of each counts.

    Args:
        answer: Answers one text.
        texts: n texts.
        clock: Seconds that pass.
    """
    for text in texts[:_WARM_UP]:
        answer(text)
    times = np.zeros((_ROUNDS, len(texts)))
    for own in times:
        for i, text in enumerate(texts):
            before = clock()
            answer(text)
            own[i] = 1000.0 * (clock() - before)
    return np.asarray(times.min(axis=0))


def percentile_bounds(times: Floats, share: float, confidence: float) -> tuple[float, float]:
    """Return one-sided lower and upper bounds of a quantile, each of this confidence.

    They are order statistics, and hold for any distribution: of n independent values the number
    below the quantile is binomial (n, share). Where too few were measured they are 0 and infinity.

    Source: Conover, Practical Nonparametric Statistics (3rd edition 1999), section 3.2.

    Args:
        times: float64[n].
        share: Of the quantile, above 0 and below 1.
        confidence: Of each bound.

    Example:
        >>> percentile_bounds(np.arange(1.0, 60.0), 0.95, 0.95)[1]  # of 59 values the largest
        59.0
    """
    from scipy.stats import binom

    n, ordered = len(times), np.sort(times)
    high = int(binom.ppf(confidence, n, share)) + 1  # P(fewer than `high` below) >= confidence
    low = int(binom.ppf(1 - confidence, n, share))  # P(`low` or more below) >= confidence
    return (
        float(ordered[low - 1]) if low >= 1 else 0.0,
        float(ordered[high - 1]) if high <= n else math.inf,
    )


def latency(times: Floats, rule: Latency, declared: Constraints) -> Requirement:
    """Return whether answers are shown to be fast enough.

    Args:
        times: Of n texts, in milliseconds.
        rule: Percentile and ceiling.
        declared: For the confidence.
    """
    confidence, share = declared.confidence or LATENCY_CONFIDENCE, rule.percentile / 100
    low, high = percentile_bounds(times, share, confidence)
    value = float(np.quantile(times, share)) if len(times) else math.nan
    threads = f"{rule.threads} thread{'s' if rule.threads > 1 else ''}"
    told = (
        f"{rule.percentile:g}% of {len(times)} texts are answered within {value:.2f} ms by "
        f"{threads} (between {low:.2f} and {high:.2f} ms, each bound with "
        f"{100 * confidence:g}% confidence; at most {rule.at_most_ms:g})"
        f"{verdict(low, high, rule.at_most_ms)}"
    )
    return Requirement("latency", high <= rule.at_most_ms, told)
