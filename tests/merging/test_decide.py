"""Gold rows decide among merges: against worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from fm_platform.merging.decide import Verdict, best_of, compared

SOURCES = ["a"] * 50 + ["b"] * 50


def world(seed: int, gains: tuple[float, ...], together: float = 0.0) -> list[Verdict]:
    """Candidates that are better by `gains` on average, on 100 rows whose losses vary by 0.2."""
    rng = np.random.default_rng(seed)
    reference = rng.exponential(0.5, 100)
    shared = rng.normal(0, 0.2, 100)
    own = rng.normal(0, 0.2, (len(gains), 100))
    noise = together * shared + np.sqrt(1 - together**2) * own
    losses = [reference - gain - row for gain, row in zip(gains, noise, strict=True)]
    return compared(reference, losses, SOURCES, seed)


@pytest.mark.parametrize("together", [0.0, 0.95])
def test_candidates_that_are_no_better_are_seldom_chosen(together: float) -> None:
    wrong = sum(best_of(world(seed, (0.0,) * 5, together)) is not None for seed in range(200))

    assert wrong / 200 < 0.1  # 5 in 100 are allowed; three standard errors of 200 worlds above


def test_one_that_is_better_is_found_and_its_bound_holds() -> None:
    found = [world(seed, (0.0, 0.08, -0.1)) for seed in range(100)]

    assert sum(best_of(verdicts) == 1 for verdicts in found) > 80
    assert sum(verdicts[1].at_least <= 0.08 for verdicts in found) > 90
    assert np.mean([v[1].gain for v in found]) == pytest.approx(0.08, abs=0.01)


def test_candidates_that_do_the_same_cost_no_more_than_one() -> None:
    rng = np.random.default_rng(0)
    reference = rng.exponential(0.5, 100)
    one = reference - rng.normal(0.04, 0.2, 100)
    alone, crowd = (compared(reference, [one] * count, SOURCES) for count in (1, 20))

    assert crowd[0].at_least == pytest.approx(alone[0].at_least)


def test_a_source_counts_by_its_mean_not_by_its_rows() -> None:
    sources = ["big"] * 90 + ["small"] * 10
    reference = np.linspace(0.5, 1.5, 100)
    better_on_big = reference - np.where(np.arange(100) < 90, 0.2, -0.2)
    (verdict,) = compared(reference, [better_on_big], sources)

    assert verdict.gain == pytest.approx(0.0, abs=1e-12)


def test_what_never_differs_is_not_better() -> None:
    losses = np.linspace(0, 1, 100)

    assert compared(losses, [losses], SOURCES) == [Verdict(0.0, 0.0)]
    assert best_of(compared(losses, [losses], SOURCES)) is None
    assert compared(losses, [], SOURCES) == []


def test_the_one_that_is_surely_better_goes_before_the_one_that_may_be() -> None:
    assert best_of([Verdict(0.5, 0.01), Verdict(0.2, 0.1), Verdict(0.9, -0.1)]) == 1
