"""Label models against known truth, and the choice between them."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fm_platform.labeling.diagnostics import diagnose, wilson
from fm_platform.labeling.label_model import (
    MAJORITY,
    ONE_COIN,
    LabelModelFit,
    fit_em,
    fit_label_model,
    majority_vote,
)
from fm_platform.spec.models import LabelModelSpec

VOTES = hnp.arrays(np.int8, st.tuples(st.integers(1, 12), st.integers(1, 4)),
                   elements=st.integers(-1, 2))  # fmt: skip


def independent(
    n: int, accuracies: list[float], prior: float, seed: int = 0
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Return votes and truth of binary rows with conditionally independent functions."""
    generator = np.random.default_rng(seed)
    truth = (generator.random(n) < prior).astype(np.int64)
    right = generator.random((n, len(accuracies))) < np.array(accuracies)
    votes = np.where(right, truth[:, None], 1 - truth[:, None])
    return np.where(generator.random(votes.shape) < 0.6, votes, -1).astype(np.int8), truth


@pytest.mark.parametrize("one_coin", [True, False])
def test_em_finds_accuracies_and_prior_of_independent_functions(one_coin: bool) -> None:
    accuracies = [0.9, 0.8, 0.75, 0.7, 0.65, 0.6]
    votes, truth = independent(20_000, accuracies, prior=0.3)

    model = fit_em(votes, 2, one_coin=one_coin)

    assert np.abs(model.confusion[:, 1, 1] - accuracies).max() < 0.03
    assert abs(model.prior[1] - 0.3) < 0.02
    right = (model.predict(votes).argmax(axis=1) == truth).mean()
    assert right >= (majority_vote(votes, 2).argmax(axis=1) == truth).mean()


@settings(max_examples=50, deadline=None)
@given(VOTES)
def test_posteriors_are_probabilities_whatever_the_votes(votes: npt.NDArray[np.int8]) -> None:
    for told in (majority_vote(votes, 3), fit_em(votes, 3, one_coin=True).predict(votes)):
        assert told.shape == (len(votes), 3)
        assert np.isfinite(told).all()
        assert np.allclose(told.sum(axis=1), 1)


def test_the_order_of_functions_does_not_matter() -> None:
    votes, _ = independent(2_000, [0.9, 0.7, 0.6], prior=0.4)

    first = fit_em(votes, 2, one_coin=False).predict(votes)
    second = fit_em(votes[:, ::-1], 2, one_coin=False).predict(votes[:, ::-1])

    assert np.allclose(first, second, atol=1e-6)


def test_rows_without_a_vote_get_the_mean_of_the_others() -> None:
    votes = np.array([[0, 0], [0, 1], [-1, -1]], np.int8)

    assert majority_vote(votes, 2)[2].tolist() == [0.75, 0.25]


def test_without_dev_rows_majority_vote_is_used_and_said() -> None:
    votes, _ = independent(500, [0.9, 0.6, 0.6], prior=0.5)
    none = np.zeros(0, np.int64)

    fit = fit_label_model(votes, ["a"] * 500, none, none, 2, LabelModelSpec())

    assert fit.method == MAJORITY
    assert fit.evidence == [
        {"method": MAJORITY, "group": "all", "dev_rows": 0, "accuracy": None, "log_loss": None,
         "chosen": True}
    ]  # fmt: skip


def test_em_is_chosen_where_dev_shows_that_it_is_better() -> None:
    votes, truth = independent(5_000, [0.95, 0.55, 0.55, 0.55, 0.55], prior=0.3)
    dev = np.arange(400)

    fit = fit_label_model(votes, ["a"] * 5_000, dev, truth[dev], 2, LabelModelSpec())

    assert fit.method != MAJORITY
    methods = {r["method"]: r for r in fit.evidence if r["group"] == "all"}
    assert methods[fit.method]["accuracy"] > methods[MAJORITY]["accuracy"]
    assert methods[fit.method]["log_loss"] < methods[MAJORITY]["log_loss"]


def test_copies_of_a_bad_function_do_not_make_em_win() -> None:
    votes, truth = independent(5_000, [0.8, 0.8, 0.8, 0.8, 0.55], prior=0.5)
    copied = np.concatenate([votes, *[votes[:, 4:5]] * 4], axis=1)
    dev = np.arange(400)

    fit = fit_label_model(copied, ["a"] * 5_000, dev, truth[dev], 2, LabelModelSpec())

    told = fit.predict(copied, ["a"] * 5_000).argmax(axis=1)
    majority = majority_vote(copied, 2).argmax(axis=1)
    assert (told == truth).mean() >= (majority == truth).mean() - 0.003


def test_a_fit_survives_json_exactly() -> None:
    votes, truth = independent(800, [0.9, 0.7], prior=0.3)
    groups = ["a"] * 500 + ["b"] * 300
    spec = LabelModelSpec(candidates=("em",))
    fit = fit_label_model(votes, groups, np.arange(50), truth[:50], 2, spec)

    again = LabelModelFit.from_json(json.loads(json.dumps(fit.to_json())))

    assert again.method in (ONE_COIN, "em_confusion")
    assert (again.predict(votes, groups) == fit.predict(votes, groups)).all()


def test_a_group_with_few_rows_uses_the_pooled_model() -> None:
    votes, truth = independent(600, [0.9, 0.7, 0.6], prior=0.3)
    groups = ["big"] * 590 + ["small"] * 10
    spec = LabelModelSpec(candidates=("em",))

    fit = fit_label_model(votes, groups, np.arange(60), truth[:60], 2, spec)

    assert sorted(fit.groups) == ["*", "big"]


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
