"""The stacked label model: gold rows say how far to trust which vote, and it never says more."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fm_platform.labeling.label_model import LabelModelFit, fit_label_model
from fm_platform.labeling.partial import ClassSets
from fm_platform.labeling.stacked import (
    StackedModel,
    StackedSettings,
    fit_stacked,
    left_out,
    vote_features,
)
from fm_platform.spec.models import LabelModelSpec

SETTINGS = StackedSettings(per_group=True, pooled="*", inverse_regularization=0.3)


def town(n: int, seed: int) -> tuple[Any, list[str], Any]:
    """Return votes of one good function and four copies of a bad one, on rows of two groups.

    In group b the good function has the classes the wrong way round.
    """
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, n)
    groups = np.where(np.arange(n) % 2 == 0, "a", "b")
    good = np.where(generator.random(n) < 0.9, truth, 1 - truth)
    good = np.where(groups == "b", 1 - good, good)
    bad = generator.integers(0, 2, n)
    votes = np.stack([good, bad, bad, bad, bad], axis=1).astype(np.int8)
    return votes, groups.tolist(), truth.astype(np.int64)


def test_gold_rows_outvote_a_crowd_of_copies_and_tell_groups_apart() -> None:
    votes, groups, truth = town(1_000, seed=0)
    gold = np.arange(100)
    spec = LabelModelSpec(candidates=("majority_vote", "stacked"))

    fit = fit_label_model(votes, groups, gold, truth[gold], 2, spec)

    told = fit.predict(votes[100:], groups[100:])
    assert fit.method == "stacked"
    assert (told.argmax(axis=1) == truth[100:]).mean() > 0.85
    log_loss = -np.log(told[np.arange(900), truth[100:]]).mean()
    claimed = next(r["log_loss"] for r in fit.evidence if r["chosen"] and r["group"] == "all")
    assert abs(log_loss - claimed) < 0.1, "what it promises on dev is what it keeps elsewhere"


def test_where_it_is_no_better_the_reason_names_it() -> None:
    generator = np.random.default_rng(2)
    truth = generator.integers(0, 2, 400)
    votes = np.stack(
        [np.where(generator.random(400) < 0.8, truth, 1 - truth) for _ in range(5)], axis=1
    ).astype(np.int8)  # equally good: a majority is the best that can be done
    spec = LabelModelSpec(candidates=("majority_vote", "stacked"))

    fit = fit_label_model(votes, ["a"] * 400, np.arange(60), truth[:60], 2, spec)

    assert fit.method == "majority_vote"
    assert fit.reason.startswith("majority_vote is used, stacked is not: the votes predict")


def test_it_is_judged_on_rows_that_it_was_fitted_without() -> None:
    generator = np.random.default_rng(1)
    votes = generator.integers(-1, 2, (60, 12)).astype(np.int8)
    labels = generator.integers(0, 2, 60)  # nothing to learn

    told = left_out(votes, ["a"] * 60, labels, 2, replace(SETTINGS, inverse_regularization=1e4))

    assert (told.argmax(axis=1) == labels).mean() < 0.7


def test_a_group_without_gold_rows_gets_the_vote_shares() -> None:
    votes, groups, truth = town(100, seed=2)
    models = fit_stacked(votes, groups, truth, 2, SETTINGS)

    told = models["*"].predict(np.array([[0, 0, 1, -1, -1]], np.int8))

    assert told.round(6).tolist() == [[0.666667, 0.333333]]


def test_too_few_gold_rows_leave_it_out() -> None:
    votes, groups, truth = town(300, seed=3)
    spec = LabelModelSpec(candidates=("majority_vote", "stacked"))

    fit = fit_label_model(votes, groups, np.arange(10), truth[:10], 2, spec)

    assert {record["method"] for record in fit.evidence} == {"majority_vote"}


def test_a_class_without_gold_rows_is_never_above_its_votes() -> None:
    votes, groups, truth = town(100, seed=4)
    models = fit_stacked(votes, groups, truth, 3, SETTINGS)

    told = models["a"].predict(votes)

    assert told[:, 2].max() < 1e-6
    assert told.sum(axis=1) == pytest.approx(1.0)


def test_a_row_without_a_vote_gets_the_share_of_the_gold_rows() -> None:
    votes, groups, truth = town(100, seed=5)
    model = fit_stacked(votes, groups, truth, 2, SETTINGS)["a"]

    assert model.predict(np.full((1, 5), -1, np.int8))[0] == pytest.approx(model.prior)


def test_a_vote_for_several_classes_counts_in_equal_parts() -> None:
    sets = ClassSets.of([(0, 2)])

    seen, shares = vote_features(np.array([[-2, 1, -1]], np.int8), 3, sets)

    assert seen.tolist() == [[0.5, 0, 0.5, 0, 1, 0, 0, 0, 0]]
    assert shares.tolist() == [[0.25, 0.5, 0.25]]


def test_it_reads_back_what_it_wrote() -> None:
    votes, groups, truth = town(200, seed=6)
    spec = LabelModelSpec(candidates=("majority_vote", "stacked"))
    fit = fit_label_model(votes, groups, np.arange(100), truth[:100], 2, spec)

    again = LabelModelFit.from_json(json.loads(json.dumps(fit.to_json())))

    assert isinstance(again.groups["*"], StackedModel)
    assert (again.predict(votes, groups) == fit.predict(votes, groups)).all()
