"""When another label model is preferred to majority vote."""

from __future__ import annotations

import numpy as np
import pytest

from fm_platform.labeling.choice import Verdict, compare


@pytest.mark.parametrize(
    ("predicted", "doubt", "shown", "spread", "better"),
    [
        (0.03, 0.01, None, 0.0, True),  # the votes are sure, nobody was asked
        (0.03, 0.05, None, 0.0, False),  # the votes are not
        (0.03, 0.02, 0.02, 0.02, True),  # both say so
        (-0.04, 0.45, 0.02, 0.017, False),  # few rows alone, and the votes know nothing
        (-0.04, 0.45, 0.06, 0.017, True),  # the rows leave no doubt
        (0.03, 0.01, -0.06, 0.01, False),  # people say otherwise
    ],
)
def test_evidence_is_pooled_and_contradiction_needs_to_be_sure(
    predicted: float, doubt: float, shown: float | None, spread: float, better: bool
) -> None:
    verdict = Verdict(predicted, doubt, shown, spread, 0 if shown is None else 200)

    assert verdict.better is better


def test_a_handful_of_gold_rows_decides_nothing() -> None:
    few, many = (Verdict(0.07, 0.18, 0.17, 0.23, rows) for rows in (6, 60))

    assert not few.better
    assert many.better


def test_a_source_keeps_majority_vote_only_where_evidence_speaks_against() -> None:
    right, other = np.array([1.0, 1, 0, 1] * 10), np.array([1.0, 0, 0, 1] * 10)

    ahead = compare(-0.01, 0.3, 0.0, 1.0, 5000, right, other)
    behind = compare(-0.01, 0.3, 0.0, 1.0, 5000, other, right)

    assert ahead.expected > 0
    assert not ahead.worse
    assert behind.worse
    assert not behind.better


def test_two_models_that_differ_on_few_rows_are_judged_by_the_votes() -> None:
    right, other = np.ones(100), np.ones(100)
    other[0] = 0  # one gold row speaks for the first, and the votes for the second

    near = compare(-0.003, 0.0, 0.0, 0.2, 10_000, right, other)
    far = compare(-0.003, 0.0, 0.0, 1.0, 10_000, right, other)

    assert near.doubt < far.doubt
    assert near.expected < 0 < far.expected
