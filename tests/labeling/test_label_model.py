"""The choice between label models, its evidence, and what is kept of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fm_platform.labeling.choice import compare
from fm_platform.labeling.diagnostics import diagnose, wilson
from fm_platform.labeling.label_model import (
    Gold,
    LabelModelFit,
    LabelModelFitter,
    fit_label_model,
    majority_vote,
)
from fm_platform.labeling.parameters import MAJORITY
from fm_platform.labeling.partial import ClassSets
from fm_platform.spec.models import LabelModelSpec
from tests.labeling.drawn import accuracy, independent, with_copies

NONE = np.zeros(0, np.int64)
POOLED = LabelModelSpec(per_source=False)


def test_without_gold_rows_a_model_is_used_where_there_is_little_doubt() -> None:
    votes, truth = independent(5_000, [0.95, 0.6, 0.6, 0.55, 0.55], prior=0.3)

    fit = fit_label_model(votes, ["a"] * 5_000, NONE, NONE, 2, LabelModelSpec())

    assert fit.method != MAJORITY
    assert "there are no gold rows" in fit.reason
    told = fit.predict(votes, ["a"] * 5_000)
    assert accuracy(told, truth) > accuracy(majority_vote(votes, 2), truth) + 0.05


def test_without_gold_rows_and_with_doubt_majority_vote_is_used_and_said() -> None:
    votes, _ = independent(60, [0.7, 0.7, 0.7, 0.7], prior=0.5, coverage=1.0)

    fit = fit_label_model(votes, ["a"] * 60, NONE, NONE, 2, LabelModelSpec())

    assert fit.method == MAJORITY
    assert "majority_vote" in fit.reason
    chosen = [record for record in fit.evidence if record["chosen"]]
    assert {record["method"] for record in chosen} == {MAJORITY}
    assert next(r["note"] for r in chosen if r["group"] == "all") == fit.reason


def test_the_candidates_are_fitted_together_and_all_are_evidence() -> None:
    votes, truth = independent(5_000, [0.95, 0.55, 0.55, 0.55, 0.55], prior=0.3)
    dev = np.arange(200)

    fit = fit_label_model(votes, ["a"] * 5_000, dev, truth[dev], 2, LabelModelSpec())

    found = {record["method"]: record for record in fit.evidence if record["group"] == "all"}
    assert {MAJORITY, "triplet", "em_one_coin", "em_confusion", "em_silence"} < set(found)
    assert found[fit.method]["accuracy"] > found[MAJORITY]["accuracy"]
    assert found[fit.method]["dev_rows"] == 200
    shown = accuracy(fit.predict(votes, ["a"] * 5_000), truth)
    assert abs(found[fit.method]["predicted_accuracy"] - shown) < 0.02
    assert fit.calibration["rows"] == 200


def test_copies_count_once() -> None:
    votes, truth = independent(6_000, [0.85, 0.8, 0.8, 0.75, 0.7, 0.55], prior=0.4)
    copied = with_copies(votes, 5, 4)
    dev = np.arange(60)

    fit = fit_label_model(copied, ["a"] * 6_000, dev, truth[dev], 2, LabelModelSpec())

    assert fit.copies == ((5, 6, 7, 8, 9),)
    told = fit.predict(copied, ["a"] * 6_000)
    assert accuracy(told, truth) > accuracy(majority_vote(copied, 2), truth) + 0.05


@pytest.mark.parametrize("seed", range(3))
def test_copies_that_fall_silent_together_do_not_make_silence_the_class(seed: int) -> None:
    generator = np.random.default_rng(seed)
    accuracies = [0.9, 0.6, 0.6, 0.6, 0.62, 0.66, 0.7, 0.75, 0.78, 0.6]
    votes, truth = independent(4_000, accuracies, prior=0.3, seed=seed, coverage=0.5)
    for copy in (1, 2, 3):
        same = generator.random(len(votes)) < 0.9
        votes[same, copy] = votes[same, 0]

    fit = fit_label_model(votes, ["a"] * 4_000, NONE, NONE, 2, LabelModelSpec())

    told = fit.predict(votes, ["a"] * 4_000)
    assert "silence" not in fit.method
    assert accuracy(told, truth) > accuracy(majority_vote(votes, 2), truth) - 0.02


@pytest.mark.parametrize("candidates", [("em_grouped",), ("triplet", "em_grouped"),
                                        ("majority_vote", "em_grouped")])  # fmt: skip
def test_where_nothing_is_copied_grouped_em_is_em(candidates: tuple[str, ...]) -> None:
    votes, truth = independent(3_000, [0.95, 0.6, 0.6, 0.55, 0.55], prior=0.3)
    spec = LabelModelSpec.model_validate({"candidates": candidates, "gold_weight": False})

    fit = fit_label_model(votes, ["a"] * 3_000, NONE, NONE, 2, spec)

    assert fit.copies == ()
    assert {"em_one_coin", "em_confusion", "em_silence"} <= {r["method"] for r in fit.evidence}
    told = fit.predict(votes, ["a"] * 3_000)
    assert accuracy(told, truth) > accuracy(majority_vote(votes, 2), truth) + 0.05


def test_gold_rows_that_speak_against_a_model_bring_majority_vote_back() -> None:
    # the votes look as if the first function were right: seven copies of noise agree with it
    votes, truth = independent(4_000, [0.8, 0.8, 0.8, 0.5, 0.5], prior=0.5)
    generator = np.random.default_rng(0)
    hard = generator.random(4_000) < 0.4
    votes[hard, 3:] = np.where(votes[hard, 3:] >= 0, 1 - truth[hard, None], -1)
    spec = LabelModelSpec(candidates=("majority_vote", "em"), per_source=False, gold_weight=False)
    dev = np.arange(400)

    fit = fit_label_model(votes, ["a"] * 4_000, dev, truth[dev], 2, spec)

    told = fit.predict(votes, ["a"] * 4_000)
    assert accuracy(told, truth) >= accuracy(majority_vote(votes, 2), truth) - 0.003


def test_a_source_where_majority_vote_is_better_keeps_it_and_says_so() -> None:
    good, truth = independent(4_000, [0.95, 0.55, 0.55, 0.55, 0.55], prior=0.3)
    other, other_truth = independent(600, [0.85, 0.85, 0.85, 0.55, 0.55], prior=0.5, seed=1)
    other = np.concatenate([other[:, :3], other[:, 3:4], other[:, 3:4]], axis=1)  # EM is misled
    votes = np.concatenate([good, other])
    groups = ["good"] * 4_000 + ["other"] * 600
    dev = np.concatenate([np.arange(400), np.arange(4_000, 4_200)])
    labels = np.concatenate([truth, other_truth])[dev]
    spec = LabelModelSpec(candidates=("majority_vote", "em"), gold_weight=False)

    fit = fit_label_model(votes, groups, dev, labels, 2, spec)

    used = {record["group"]: record for record in fit.evidence if record["chosen"]}
    assert used["all"]["method"] == used["good"]["method"] != MAJORITY
    assert used["other"]["method"] == MAJORITY
    assert "is not used here: the votes predict" in used["other"]["note"]
    assert fit.groups["other"].method == MAJORITY


def test_a_little_gold_raises_accuracy_where_the_majority_misleads() -> None:
    votes, truth = independent(3_000, [0.85, 0.8, 0.8], prior=0.5, coverage=1.0)
    misled = with_copies(1 - votes[:, :1], 0, 6, noise=0.15)
    both = np.concatenate([votes, misled], axis=1).astype(np.int8)
    spec = LabelModelSpec(candidates=("majority_vote", "em"), per_source=False)
    names, dev, rest = ["a"] * 3_000, np.arange(60), np.arange(60, 3_000)

    with_gold = fit_label_model(both, names, dev, truth[dev], 2, spec).predict(both, names)
    without = fit_label_model(both, names, NONE, NONE, 2, spec).predict(both, names)

    assert accuracy(without[rest], truth[rest]) < 0.5 < accuracy(with_gold[rest], truth[rest])


def test_days_one_by_one_give_what_all_together_give() -> None:
    votes, truth = independent(3_000, [0.9, 0.7, 0.6, 0.6], prior=0.3)
    groups = ["a", "b"] * 1_500
    dev = np.arange(80)
    whole = fit_label_model(votes, groups, dev, truth[dev], 2, LabelModelSpec())

    fitter = LabelModelFitter(4, 2, LabelModelSpec())
    for day in np.array_split(np.arange(3_000), 7):
        fitter.add(votes[day], [groups[i] for i in day])
    gold = Gold(votes[dev], truth[dev].astype(np.int8), groups[:80])

    assert fitter.fit(gold).to_json() == whole.to_json()


def test_a_day_of_a_few_rows_is_labeled_by_what_earlier_days_showed() -> None:
    votes, truth = independent(8_000, [0.95, 0.55, 0.55, 0.55], prior=0.3)
    spec = LabelModelSpec(per_source=False, carry=0.9, candidates=("em",))
    day, names = np.arange(60), ["a"] * 60
    before = fit_label_model(votes[60:], ["a"] * 7_940, NONE, NONE, 2, spec)

    fitter = LabelModelFitter(4, 2, spec)
    fitter.add(votes[day], names)
    carried = fitter.fit(start=before)

    assert abs(carried.likeliest["*"].emissions[0][0, 0] - 0.95) < 0.05
    assert accuracy(carried.predict(votes[day], names), truth[day]) > 0.85


def test_partial_gold_and_partial_votes_are_understood() -> None:
    votes, truth = independent(2_000, [0.9, 0.8, 0.8], prior=0.5)
    sets = ClassSets.of([(0, 1)])
    labels = truth[:100].copy()
    labels[::3] = -2
    some = votes.copy()
    some[:50, 2] = -2

    fit = fit_label_model(some, ["a"] * 2_000, np.arange(100), labels, 3, POOLED, sets)

    assert fit.calibration["rows"] == 66
    assert accuracy(fit.predict(some, ["a"] * 2_000, sets), truth) > 0.8


@pytest.mark.parametrize("candidate", ["majority_vote", "triplet", "em", "em_silence"])
def test_a_fit_survives_json_exactly(candidate: Any) -> None:
    votes, truth = independent(800, [0.9, 0.7, 0.6], prior=0.3)
    groups = ["a"] * 500 + ["b"] * 290 + ["few"] * 10
    spec = LabelModelSpec(candidates=(candidate,))
    fit = fit_label_model(votes, groups, np.arange(50), truth[:50], 2, spec)

    again = LabelModelFit.from_json(json.loads(json.dumps(fit.to_json())))

    assert sorted(fit.groups) == ["*", "a", "b"]
    assert again.to_json() == fit.to_json()
    assert (again.predict(votes, groups) == fit.predict(votes, groups)).all()


def test_votes_and_gold_rows_are_pooled_by_their_precision() -> None:
    right, other = np.repeat([1.0, 0.0], [80, 20]), np.repeat([1.0, 0.0], [70, 30])

    trusted = compare(-0.05, 0.0, 0.0, 1.0, 1e5, right, other)
    doubted = compare(-0.05, 0.1, 0.0, 1.0, 1e5, right, other)

    assert not trusted.better  # a model that fits is believed before a hundred gold rows
    assert doubted.better
    assert doubted.shown == pytest.approx(0.1)
    assert not compare(0.004, 0.0, 0.0, 1.0, 1e5, NONE, NONE).better
    assert compare(0.02, 0.0, 0.0, 1.0, 1e5, NONE, NONE).better


def test_diagnostics_by_hand() -> None:
    votes = np.array([[0, 0], [0, 1], [-1, 1], [1, -1]], np.int8)

    records = diagnose(votes, ["f", "g"], ["a"] * 4, np.array([0, 1]), np.array([0, 1]))

    f = next(r for r in records if r["function"] == "f" and r["group"] == "all")
    assert (f["coverage"], f["overlap"], f["conflict"]) == (0.75, 0.5, 0.25)
    assert (f["dev_votes"], f["dev_accuracy"]) == (2, 0.5)


def test_wilson_interval_of_a_known_case() -> None:
    low, high = wilson(8, 10)

    # computed by statsmodels 0.14 proportion_confint(8, 10, method="wilson")
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert wilson(0, 0) == (0.0, 1.0)
