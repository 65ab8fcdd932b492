"""Which parts of a split the votes on a row tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.labeling.cells import best, cells_of
from fm_platform.labeling.partial import ClassSets, encode
from fm_platform.labeling.vocabulary import Vocabulary, answers, members

K = 4
SETS = [(1, 2), (2, 3), (0, 1, 2)]
VOTES = st.lists(
    st.sampled_from([-1, 0, 1, 2, 3, (1, 2), (2, 3), (0, 1), (1, 2, 3)]), min_size=1, max_size=4
)


@pytest.mark.parametrize(
    ("votes", "cells"),
    [
        ([(1, 2), -1], [0, 1, 1, 3]),  # the old class alone
        ([(1, 2), 2], [0, 1, 2, 3]),  # another function says which part
        ([(1, 2), 3], [0, 1, 1, 3]),  # a vote elsewhere tells nothing about the parts
        ([-1, -1], [0, 1, 2, 3]),
        ([2, -1], [0, 1, 2, 3]),
        ([(1, 2, 3), -1], [0, 1, 1, 1]),  # both splits, which share a class
    ],
)
def test_parts_stay_together_until_a_vote_tells_them_apart(
    votes: list[int | tuple[int, ...]], cells: list[int]
) -> None:
    told, sets = encode(votes, K)

    assert cells_of(told[None, :], sets, [(1, 2), (2, 3)], K).tolist() == [cells]


@given(st.lists(VOTES.map(lambda v: (v * 4)[:4]), min_size=1, max_size=6))
def test_it_does_not_matter_which_rows_stand_beside(
    rows: list[list[int | tuple[int, ...]]],
) -> None:
    flat, sets = encode([vote for row in rows for vote in row], K)
    votes = flat.reshape(len(rows), 4)

    together = cells_of(votes, sets, SETS, K)

    for i in range(len(rows)):
        assert cells_of(votes[i : i + 1], sets, SETS, K).tolist() == [together[i].tolist()]
        assert (together[i] <= np.arange(K)).all()  # named by its first class
        assert (together[i][together[i]] == together[i]).all()


def test_the_best_class_lies_in_the_best_cell() -> None:
    told = np.array([[0.4, 0.3, 0.3], [0.4, 0.3, 0.3]])

    label, mass = best(told, np.array([[0, 1, 2], [0, 1, 1]], np.int8))

    assert label.tolist() == [0, 1]
    assert mass.tolist() == pytest.approx([0.4, 0.6])


def test_names_of_before_are_read_in_the_classes_of_today() -> None:
    index = answers(Vocabulary.of(["bad", "fine", "great"], {"good": ["fine", "great"], "x": []}))

    assert members(index, "good") == members(index, ("great", "fine")) == (1, 2)
    assert members(index, "x") == ()
    assert ClassSets.of([members(index, "good")]).code((1, 2)) == -2
    with pytest.raises(KeyError):
        members(index, "ugly")
