"""How long an answer takes: what is timed, and what is shown of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from fm_platform.evaluation.latency import answer_times, latency, percentile_bounds
from fm_platform.spec.evaluation import Constraints, Latency


class Clock:
    """Time that passes only when an answer is given: 1 ms a letter, and a disturbance."""

    def __init__(self) -> None:
        self.now, self.answers = 0.0, 0

    def answer(self, text: str) -> None:
        self.answers += 1
        slow = (
            0.5 if 43 <= self.answers < 60 else 0.0
        )  # something else in the second half of a round
        self.now += len(text) / 1000 + slow


def test_the_fastest_of_three_rounds_counts_after_a_warm_up() -> None:
    clock, texts = Clock(), ["x" * n for n in range(1, 31)]
    times = answer_times(clock.answer, texts, lambda: clock.now)

    assert clock.answers == 20 + 3 * 30
    assert times == pytest.approx(np.arange(1, 31))


@pytest.mark.parametrize(("n", "share"), [(100, 0.5), (200, 0.95), (500, 0.99)])
def test_bounds_of_a_percentile_hold_whatever_the_distribution(n: int, share: float) -> None:
    low, high = percentile_bounds(np.arange(1.0, n + 1), share, 0.95)

    # k values lie below the true quantile with the chance of the binomial
    assert binom.cdf(high - 1, n, share) >= 0.95 > binom.cdf(high - 2, n, share)
    assert binom.sf(low - 1, n, share) >= 0.95 > binom.sf(low, n, share)


def test_too_few_texts_show_no_ceiling() -> None:
    assert percentile_bounds(np.arange(58.0), 0.95, 0.95)[1] == math.inf
    assert percentile_bounds(np.zeros(0), 0.95, 0.95) == (0.0, math.inf)


def test_a_ceiling_must_be_shown() -> None:
    times = np.linspace(1.0, 20.0, 200)

    def told(at_most_ms: float) -> tuple[bool, str]:
        found = latency(times, Latency(at_most_ms=at_most_ms), Constraints())
        return found.ok, found.told

    assert told(20.0)[0]
    assert "95% of 200 texts are answered within 19.05 ms by 1 thread" in told(20.0)[1]
    assert not told(19.1)[0]
    assert told(19.1)[1].endswith("that is not shown to hold")
    assert not told(10.0)[0]
    assert told(10.0)[1].endswith("that is violated")
