"""Which functions copy one another."""

from __future__ import annotations

import numpy as np
import pytest

from fm_platform.labeling.dependence import Sample, find_groups, misfit, sample_of
from fm_platform.labeling.em import fit_em
from fm_platform.labeling.patterns import Votes, unique_patterns
from tests.labeling.drawn import independent, with_copies


def sample(votes: Votes) -> Sample:
    patterns, _, counts = unique_patterns(votes, 2)
    return sample_of(patterns, counts.astype(float), 2)


@pytest.mark.parametrize("seed", range(3))
def test_independent_functions_are_never_joined(seed: int) -> None:
    votes, _ = independent(4_000, [0.9, 0.85, 0.8, 0.7, 0.6, 0.6], prior=0.3, seed=seed)

    assert find_groups(sample(votes)) == ()


@pytest.mark.parametrize(("copied", "noise"), [(5, 0.0), (5, 0.05), (5, 0.2), (2, 0.05), (0, 0.1)])
def test_copies_are_found_whether_of_a_bad_or_a_good_function(copied: int, noise: float) -> None:
    votes, _ = independent(6_000, [0.85, 0.8, 0.8, 0.75, 0.7, 0.55], prior=0.4)

    assert find_groups(sample(with_copies(votes, copied, 3, noise))) == ((copied, 6, 7, 8),)


def test_copies_of_two_functions_are_two_groups() -> None:
    votes, _ = independent(6_000, [0.85, 0.8, 0.8, 0.75, 0.7, 0.6], prior=0.4)
    copied = with_copies(with_copies(votes, 5, 2), 4, 2)

    assert find_groups(sample(copied)) == ((4, 8, 9), (5, 6, 7))


def test_a_model_that_misses_copies_has_a_misfit() -> None:
    votes, _ = independent(6_000, [0.85, 0.8, 0.8, 0.75, 0.7, 0.55], prior=0.4)
    copied = with_copies(votes, 5, 3)

    assert misfit(sample(votes), fit_em(votes, 2)) < 0.002
    assert misfit(sample(copied), fit_em(copied, 2)) > 0.02
    assert misfit(sample(copied), fit_em(copied, 2, groups=((5, 6, 7, 8),))) < 0.01


def test_a_large_sample_is_drawn_and_weighs_no_more_than_it_knows() -> None:
    votes, _ = independent(50_000, [0.9, 0.8, 0.7] * 7, prior=0.5)
    patterns, _, counts = unique_patterns(votes, 2)

    drawn = sample_of(patterns, counts.astype(float), 2, most=1_000)

    assert len(drawn.patterns) == 1_000
    assert np.isclose(drawn.weights.min(), 1)
    assert drawn.weights.sum() < 50_000
