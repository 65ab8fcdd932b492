"""Patterns of votes: exact while they are few, right on average beyond, the same every time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fm_platform.labeling.partial import ClassSets
from fm_platform.labeling.patterns import VoteCounter, Votes, threshold_sample, unique_patterns
from fm_platform.labeling.units import pack

VOTES = hnp.arrays(np.int8, st.tuples(st.integers(1, 30), st.integers(1, 4)),
                   elements=st.integers(-2, 2))  # fmt: skip
SETS = ClassSets.of([(0, 1)])


@settings(max_examples=50, deadline=None)
@given(VOTES)
def test_patterns_and_units_rebuild_the_votes(votes: Votes) -> None:
    patterns, inverse, counts = unique_patterns(votes, 3, SETS)
    packed = pack(votes, None, 3, ((0, 1),) if votes.shape[1] > 1 else (), SETS)

    assert (patterns[inverse] == votes).all()
    assert counts.sum() == len(votes)
    assert (patterns == np.unique(votes, axis=0)).all()
    again = np.empty_like(votes)
    for unit in packed.units:
        again[:, list(unit.members)] = unit.table[unit.index]
    assert (again == votes).all()


def test_patterns_of_very_many_functions() -> None:
    votes = np.random.default_rng(0).integers(-1, 3, (40, 80)).astype(np.int8)
    patterns, inverse, _ = unique_patterns(np.concatenate([votes, votes]), 3)

    assert len(patterns) == 40
    assert (patterns[inverse[:40]] == votes).all()


@settings(max_examples=50, deadline=None)
@given(VOTES, st.lists(st.integers(0, 30), max_size=3))
def test_batches_count_as_one(votes: Votes, cuts: list[int]) -> None:
    counter = VoteCounter(votes.shape[1], 3)
    for part in np.split(votes, sorted(min(cut, len(votes)) for cut in cuts)):
        own = SETS if (part == -2).any() else ClassSets.of([])
        counter.add(part, own)
    patterns, weights = counter.patterns()
    expected, _, counts = unique_patterns(votes, 3, SETS)

    assert counter.sampled is False
    assert (patterns == expected).all()
    assert weights.tolist() == counts.tolist()


def test_too_many_patterns_are_drawn_and_shares_stay_right() -> None:
    generator = np.random.default_rng(0)
    votes = np.where(generator.random((60_000, 12)) < 0.7, 0, 1).astype(np.int8)

    def counted() -> tuple[Votes, np.ndarray]:
        counter = VoteCounter(12, 2, most=500)
        for part in np.array_split(votes, 20):
            counter.add(part)
        assert counter.sampled
        return counter.patterns()

    patterns, weights = counted()

    assert len(patterns) <= 500
    assert abs(weights.sum() / 60_000 - 1) < 0.02
    assert np.abs(weights @ (patterns == 0) / weights.sum() - 0.7).max() < 0.03
    assert (counted()[0] == patterns).all()


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.integers(1, 1000)), st.integers(1, 40)
)
def test_a_drawn_sample_weighs_as_much_as_the_whole(weights: np.ndarray, most: int) -> None:
    chosen, drawn = threshold_sample(weights, most, np.random.default_rng(0))

    assert len(chosen) == len(drawn) <= max(most, 0) or len(weights) <= most
    assert (drawn >= weights[chosen]).all()
    assert np.isclose(drawn.sum(), weights.sum())
