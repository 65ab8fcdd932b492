"""Propagated votes: rows get the votes of texts like them, and never an echo of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.labeling.apply import apply_function
from fm_platform.labeling.outcome import LabelingContext
from fm_platform.labeling.partial import ABSTAIN
from fm_platform.labeling.propagated import propagate, propagated_function
from fm_platform.spec.models import PropagatedFunction

CLASSES = ("bad", "good")


def clusters(n: int, seed: int, coverage: float) -> tuple[LabelingContext, Any]:
    """Return n rows in two clusters; one function votes, right, on a share of them."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, n)
    vectors = generator.normal(size=(n, 8)) * 0.3 + np.where(truth[:, None] == 1, 1.0, -1.0)
    votes = np.where(generator.random(n) < coverage, truth, -1).astype(np.int8)[:, None]
    made = LabelingContext(
        row_embeddings=vectors.astype(np.float32),
        row_votes=votes,
        row_ids=[f"{i:032x}" for i in range(n)],
        row_sources=["a"] * n,
    )
    return made, truth


def votes(made: LabelingContext, **settings: Any) -> Any:
    declared = PropagatedFunction(kind="propagated", name="p", **settings)
    rows = pa.record_batch({"row_id": made.row_ids, "text": ["x"] * len(made.row_ids)})
    return apply_function(propagated_function(declared, Path()), [rows], CLASSES, made).votes


def test_rows_without_a_vote_get_that_of_their_neighbours() -> None:
    made, truth = clusters(2_000, seed=0, coverage=0.2)

    assert (votes(made, minimum_lift=0.3) == truth).mean() > 0.95


def test_a_wrong_vote_does_not_come_back_to_its_row() -> None:
    made, truth = clusters(500, seed=1, coverage=1.0)
    made.row_votes[7, 0] = 1 - truth[7]  # type: ignore[index]

    assert votes(made, minimum_lift=0.0, regularization=1e-6)[7] == truth[7]


def test_unsure_rows_and_short_days_abstain() -> None:
    made, _ = clusters(2_000, seed=2, coverage=0.5)
    short, _ = clusters(90, seed=2, coverage=1.0)

    assert (votes(made, minimum_lift=9.0) == ABSTAIN).all()
    assert (votes(short) == ABSTAIN).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1_000), st.floats(0.1, 100))
def test_the_lift_is_a_standard_score_whatever_the_scale(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(200, 6)).astype(np.float32)
    shares = np.eye(3)[generator.integers(0, 2, 200)]

    lift = propagate(vectors, shares, 3.0)

    assert np.abs(lift[:, :2].mean(axis=0)).max() < 1e-9
    assert np.abs(lift[:, :2].std(axis=0) - 1).max() < 1e-6
    assert (lift[:, 2] == 0).all()
    assert np.abs(propagate(vectors * np.float32(scale), shares, 3.0) - lift).max() < 1e-3
