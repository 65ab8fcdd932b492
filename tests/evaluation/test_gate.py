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


def test_a_requirement_that_is_not_met_keeps_even_a_first_model_out() -> None:
    from fm_platform.evaluation.gate import Requirement

    found = gate(
        right_in(0.9, 0.9), None, GOLD, SOURCES, CLASSES, EVALUATION, Gate(),
        (Requirement("negation", False, "behaviour test 'negation' passes in 1 of 8 cases"),),
    )  # fmt: skip

    assert not found.promote
    assert found.reason == "Behaviour test 'negation' passes in 1 of 8 cases."
    assert found.to_json()["requirements"][0]["name"] == "negation"


def test_a_class_that_got_worse_is_found_where_sources_are_not() -> None:
    rare = np.where(np.random.default_rng(3).random(1000) < 0.1, 1, 0)
    champion, challenger = SystemPredictions(rare), SystemPredictions(np.zeros(1000, int))
    by_class = gate(
        challenger, champion, rare, SOURCES, CLASSES, EVALUATION,
        Gate(places=("class",), tolerance=0.2),
    )  # fmt: skip

    assert gate(
        challenger, champion, rare, SOURCES, CLASSES, EVALUATION, Gate(tolerance=0.2)
    ).promote
    assert not by_class.promote
    assert "class positive" in by_class.reason


def test_together_an_equal_challenger_is_refused_as_often_as_at_one_place() -> None:
    """Eight sources, one true score: the share of refusals is that of a single comparison."""
    sources, gold = [f"s{i % 8}" for i in range(400)], np.arange(400) // 8 % 2

    def refused(together: bool) -> int:
        count = 0
        for seed in range(60):
            draw = np.random.default_rng(seed).random((2, 400)) < 0.8
            one, other = (SystemPredictions(np.where(right, gold, 1 - gold)) for right in draw)
            rule = Gate(metric="accuracy", together=together)
            count += not gate(one, other, gold, sources, CLASSES, EVALUATION, rule).promote
        return count

    alone, together = refused(False), refused(True)
    assert together <= 6 < alone


def test_what_is_asked_later_adds_to_what_was_asked() -> None:
    from fm_platform.evaluation.gate import Requirement, require

    size = Requirement("size", True, "the model takes 1 MB")
    first = gate(
        right_in(0.9, 0.9), None, GOLD, SOURCES, CLASSES, EVALUATION, Gate(), (size,)
    )  # fmt: skip
    slow = Requirement("latency", False, "an answer takes 9 ms")

    assert require(first, ()) == first
    refused = require(first, (slow,))
    assert (refused.promote, refused.reason) == (False, "An answer takes 9 ms.")
    assert refused.requirements == (size, slow)
