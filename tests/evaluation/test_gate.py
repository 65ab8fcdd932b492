"""The gate promotes what is not worse and says why it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fm_platform.evaluation.gate import gate
from fm_platform.evaluation.metrics import SystemPredictions
from fm_platform.spec.models import Evaluation, Gate

CLASSES = ("negative", "positive")
EVALUATION = Evaluation(bootstrap_samples=300)
RNG = np.random.default_rng(0)
GOLD = RNG.integers(0, 2, 1000)
SOURCES = ["a"] * 800 + ["b"] * 200


def right_in(share_a: float, share_b: float, seed: int = 1) -> SystemPredictions:
    draw = np.random.default_rng(seed).random(1000)
    share = np.where(np.arange(1000) < 800, share_a, share_b)
    return SystemPredictions(np.where(draw < share, GOLD, 1 - GOLD))


def decide(challenger: SystemPredictions, champion: SystemPredictions | None, **rule: object):  # type: ignore[no-untyped-def]
    return gate(challenger, champion, GOLD, SOURCES, CLASSES, EVALUATION, Gate(**rule))


def test_first_model_is_promoted() -> None:
    decision = decide(right_in(0.8, 0.8), None)

    assert decision.promote
    assert "no champion yet" in decision.reason
    assert decision.differences == ()


def test_first_model_below_the_minimum_is_refused() -> None:
    decision = decide(right_in(0.6, 0.6), None, minimum=0.7)

    assert not decision.promote
    assert "below the minimum 0.700" in decision.reason


def test_equal_model_is_promoted() -> None:
    decision = decide(right_in(0.8, 0.8), right_in(0.8, 0.8))

    assert decision.promote
    assert "Not worse" in decision.reason


def test_better_model_is_promoted() -> None:
    decision = decide(right_in(0.9, 0.9), right_in(0.8, 0.8))

    assert decision.promote
    assert decision.records()[0]["verdict"] == "better"


def test_worse_overall_is_refused_with_numbers() -> None:
    decision = decide(right_in(0.7, 0.7), right_in(0.8, 0.8))

    assert not decision.promote
    assert "overall 0." in decision.reason
    assert "against 0." in decision.reason


def test_worse_on_one_small_source_is_refused_though_better_overall() -> None:
    decision = decide(right_in(0.9, 0.6), right_in(0.8, 0.8))

    assert decision.differences[0].interval.value > 0
    assert not decision.promote
    assert "on b" in decision.reason
    assert "on a" not in decision.reason
    assert [r["verdict"] for r in decision.records()] == ["better", "better", "worse"]


def test_tolerance_lets_a_slightly_worse_model_pass() -> None:
    challenger, champion = right_in(0.77, 0.77), right_in(0.8, 0.8)

    assert not decide(challenger, champion).promote
    assert decide(challenger, champion, tolerance=0.1).promote


def test_better_than_champion_but_below_minimum_is_refused() -> None:
    assert not decide(right_in(0.8, 0.8), right_in(0.7, 0.7), minimum=0.9).promote


@pytest.mark.parametrize("metric", ["f1_weighted", "f1_macro", "accuracy"])
def test_every_metric_of_the_spec_works(metric: str) -> None:
    decision = decide(right_in(0.8, 0.8), right_in(0.7, 0.7), metric=metric)

    assert decision.promote
    assert metric in decision.reason


def test_decision_is_json() -> None:
    decision = decide(right_in(0.8, 0.8), right_in(0.7, 0.7))

    assert json.loads(json.dumps(decision.to_json()))["differences"][0]["source"] == "all"
