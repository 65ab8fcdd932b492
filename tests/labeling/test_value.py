"""What a function is worth: on votes of which the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fm_platform.labeling.candidates import Gold
from fm_platform.labeling.em import fit_em
from fm_platform.labeling.fitted import POOLED, LabelModelFit
from fm_platform.labeling.label_model import fit_label_model
from fm_platform.labeling.parameters import LabelModel
from fm_platform.labeling.patterns import VoteCounter
from fm_platform.labeling.value import Value, marginal_values, without
from fm_platform.spec.models import LabelModelSpec
from tests.labeling.drawn import independent, with_copies


def worth(votes: np.ndarray, truth: np.ndarray, spec: LabelModelSpec, dev: int = 300) -> (
    tuple[LabelModelFit, dict[str, Value]]
):  # fmt: skip
    groups = ["main"] * len(votes)
    rows = np.arange(dev)
    fit = fit_label_model(votes, groups, rows, truth[:dev], 2, spec)
    counter = VoteCounter(votes.shape[1], 2)
    counter.add(votes)
    counters = {POOLED: counter, "main": counter}
    gold = Gold(votes[:dev], truth[:dev].astype(np.int8), ["main"] * dev)
    names = [f"f{i}" for i in range(votes.shape[1])]
    return fit, {
        value.function: value for value in marginal_values(counters, gold, fit, names, spec)
    }


@pytest.mark.parametrize("candidates", [("majority_vote",), ("em",), ("triplet",)])
def test_the_best_function_is_worth_most_and_noise_nothing(candidates: tuple[str, ...]) -> None:
    votes, truth = independent(800, [0.95, 0.7, 0.7, 0.5], 0.5, coverage=0.9)
    spec = LabelModelSpec(candidates=candidates, gold_weight=False)
    _, told = worth(votes, truth, spec)

    best = told["f0"]
    assert best.log_loss is not None
    assert best.low is not None
    assert best.accuracy is not None
    assert best.log_loss == max(value.log_loss for value in told.values())
    assert best.low > 0
    assert best.accuracy == pytest.approx((best.gained - best.lost) / 300, abs=1e-5)
    assert best.changed > told["f3"].changed or candidates == ("majority_vote",)
    assert told["f3"].log_loss is not None
    assert told["f3"].log_loss < best.log_loss / 4


def test_a_copy_is_worth_next_to_nothing_beside_its_original() -> None:
    votes, truth = independent(800, [0.9, 0.75, 0.75, 0.75], 0.5, coverage=0.9)
    copied = with_copies(votes, 0, 2, noise=0.02)
    told = {}
    for name, matrix, groups in (("alone", votes, ()), ("copied", copied, ((0, 4, 5),))):
        found = fit_em(matrix, 2, groups=groups)
        model = replace(found, method="em_one_coin" + ("_grouped" if groups else ""))
        fit = LabelModelFit(model.method, 2, {POOLED: model}, [])
        counter = VoteCounter(matrix.shape[1], 2)
        counter.add(matrix)
        gold = Gold(matrix[:300], truth[:300].astype(np.int8), ["main"] * 300)
        names = [f"f{i}" for i in range(matrix.shape[1])]
        values = marginal_values({POOLED: counter}, gold, fit, names, LabelModelSpec())
        told[name] = values[0].log_loss or 0.0
    assert told["alone"] > 0.1
    assert told["copied"] < 0.2 * told["alone"]


def test_without_dev_rows_only_changed_labels_are_told() -> None:
    votes, truth = independent(500, [0.9, 0.8, 0.8], 0.5)
    _, told = worth(votes, truth, LabelModelSpec(candidates=("em",), gold_weight=False), dev=0)
    assert told["f0"].log_loss is None
    assert told["f0"].dev_rows == 0
    assert told["f0"].changed > 0


def test_a_group_that_loses_a_member_stays_a_group_while_two_are_left() -> None:
    even, sure = np.full((2, 2), 0.5), np.array([[0.9, 0.1], [0.2, 0.8]])
    model = LabelModel(
        "em_one_coin_grouped", np.array([0.5, 0.5]), (even, sure, sure, sure), ((0, 2, 3),),
        (sure,), seen=(np.ones(2),) * 4,
    )  # fmt: skip
    assert without(model, 1).groups == ((0, 1, 2),)
    pair = without(model, 2)
    assert pair.groups == ((0, 2),)
    alone = without(pair, 0)
    assert alone.groups == ()
    assert len(alone.emissions) == len(alone.seen) == 2
    assert alone.emissions[1] == pytest.approx(sure @ sure)  # what it says of each class
