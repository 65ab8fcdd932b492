"""Constraints: values against ceilings, and what is shown of them with a confidence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from fm_platform.evaluation.constraints import constraints, share_bounds
from fm_platform.evaluation.gate import Requirement
from fm_platform.evaluation.metrics import SystemPredictions
from fm_platform.spec.evaluation import Constraints, FalsePositives, LargestGap
from fm_platform.spec.models import Evaluation, Gate

CLASSES = ("negative", "positive")
EVALUATION = Evaluation(bootstrap_samples=300)
GOLD = np.random.default_rng(0).integers(0, 2, 1000)
SOURCES = ["a"] * 800 + ["b"] * 200
IN_A = np.arange(1000) < 800


def right_in(share_a: float, share_b: float, seed: int = 1) -> SystemPredictions:
    draw = np.random.default_rng(seed).random(1000)
    return SystemPredictions(np.where(draw < np.where(IN_A, share_a, share_b), GOLD, 1 - GOLD))


def asked(
    model: SystemPredictions, declared: Constraints, size_bytes: int = 0, **slices: np.ndarray
) -> list[Requirement]:
    rule = Gate(metric="accuracy", constraints=declared)
    found = constraints(model, GOLD, SOURCES, CLASSES, EVALUATION, rule, size_bytes, slices)
    return list(found)


def gap(at_most: float, confidence: float | None = None, **changes: object) -> Constraints:
    return Constraints(largest_gap=(LargestGap(at_most=at_most, **changes),), confidence=confidence)


def calls(at_most: float, confidence: float | None = None) -> Constraints:
    ceiling = FalsePositives(label="positive", at_most=at_most)
    return Constraints(false_positives=(ceiling,), confidence=confidence)


def test_constraints_are_verified_on_gold() -> None:
    declared = Constraints(
        largest_gap=(LargestGap(at_most=0.1), LargestGap(between="class", at_most=0.5)),
        false_positives=(FalsePositives(label="positive", at_most=0.05),),
        size_mb=2,
    )
    found = asked(right_in(0.9, 0.6), declared, size_bytes=3_000_000)

    assert [(r.name, r.ok) for r in found] == [
        ("gap between source", False), ("gap between class", True),
        ("false positives of positive", False), ("size", False),
    ]  # fmt: skip
    assert "source a (0.895) and source b (0.595) lie 0.300 apart" in found[0].told
    assert "the model takes 3.0 MB (at most 2)" in found[3].told


# --- with a confidence ----------------------------------------------------------------------


@pytest.mark.parametrize(("n", "confidence"), [(20, 0.95), (60, 0.9), (200, 0.99)])
def test_bounds_of_a_share_miss_it_no_more_often_than_they_say(n: int, confidence: float) -> None:
    """Exactly: summed over every count that n rows can show, whatever the true share."""
    bounds = [share_bounds(count, n, confidence) for count in range(n + 1)]
    for true in np.linspace(0.005, 0.995, 67):
        chance = binom.pmf(np.arange(n + 1), n, true)
        too_low = sum(p for p, (_, high) in zip(chance, bounds, strict=True) if high < true)
        too_high = sum(p for p, (low, _) in zip(chance, bounds, strict=True) if low > true)
        assert max(too_low, too_high) <= 1 - confidence + 1e-9


def test_bounds_of_a_share_at_its_ends() -> None:
    assert share_bounds(0, 10, 0.95) == pytest.approx((0.0, 1 - 0.05**0.1))
    assert share_bounds(10, 10, 0.95) == pytest.approx((0.05**0.1, 1.0))
    assert share_bounds(0, 0, 0.95) == (0.0, 1.0)


def test_false_positives_must_be_shown_to_be_few() -> None:
    """0.099 of some 500 rows: below 0.11, which so few rows cannot show."""
    model = right_in(0.9, 0.9)
    (plain,) = asked(model, calls(0.11))
    (shown,) = asked(model, calls(0.11, 0.95))
    (enough,) = asked(model, calls(0.14, 0.95))
    (broken,) = asked(model, calls(0.05, 0.95))

    assert plain.ok
    assert "between" not in plain.told
    assert not shown.ok
    assert shown.told.endswith("at most 11.0%): that is not shown to hold")
    assert enough.ok
    assert "each bound with 95% confidence" in enough.told
    assert not broken.ok
    assert broken.told.endswith("that is violated")


def test_a_gap_must_be_shown_to_be_small() -> None:
    model = right_in(0.9, 0.82)
    (plain,), (few,), (wide,) = (
        asked(model, declared) for declared in (gap(0.1), gap(0.1, 0.95), gap(0.2, 0.95))
    )

    assert plain.ok
    assert not few.ok
    assert "that is not shown to hold" in few.told
    assert wide.ok
    assert not asked(right_in(0.95, 0.6), gap(0.1, 0.95))[0].ok
    assert "that is violated" in asked(right_in(0.95, 0.6), gap(0.1, 0.95))[0].told


def test_a_model_that_violates_a_gap_passes_as_rarely_as_is_said() -> None:
    """120 drawn worlds in which the true gap is exactly the ceiling: 5 % pass, give or take."""
    passed = sum(asked(right_in(0.9, 0.7, seed), gap(0.2, 0.95))[0].ok for seed in range(120))
    clear = sum(asked(right_in(0.9, 0.85, seed), gap(0.2, 0.95))[0].ok for seed in range(20))

    assert passed <= 14  # of 120 draws with 5 % more than 14 happen once in 1000 times
    assert clear >= 19


def test_of_a_place_with_few_gold_rows_nothing_is_shown() -> None:
    sources = ["a"] * 990 + ["b"] * 10
    rule = Gate(metric="accuracy", constraints=gap(0.5, 0.95))
    model = right_in(1.0, 1.0)

    (found,) = constraints(model, GOLD, sources, CLASSES, EVALUATION, rule, 0)

    assert not found.ok
    assert found.told.endswith("of 30 gold rows that it takes, source b has 10")


def test_the_gap_between_classes_is_that_of_their_f1() -> None:
    always = SystemPredictions(np.ones(1000, np.int64))
    (found,) = asked(always, gap(0.5, 0.95, between="class"))

    assert not found.ok
    assert "F1 of class positive" in found.told
    assert "class negative (0.000)" in found.told


def test_the_gap_between_slices_may_be_of_rows_that_are_in_both() -> None:
    """Rows 0 to 799 are right to 95 %, the last 200 to 60 %; `late` holds half of either."""
    model = right_in(0.95, 0.6)
    slices = {"early": IN_A, "late": np.arange(1000) >= 600}
    between = ("early", "late")

    (found,) = asked(model, gap(0.1, between=between), **slices)
    (shown,) = asked(model, gap(0.3, 0.95, between=between), **slices)

    right = model.labels == GOLD
    apart = right[slices["early"]].mean() - right[slices["late"]].mean()
    assert found.name == "gap between slice early, late"
    assert not found.ok
    assert f"lie {apart:.3f} apart" in found.told
    assert shown.ok


def test_a_slice_without_gold_rows_is_no_slice_without_a_gap() -> None:
    slices = {"early": IN_A, "none": np.zeros(1000, bool)}

    (found,) = asked(right_in(0.9, 0.9), gap(0.9, between=("early", "none")), **slices)

    assert not found.ok
    assert "slice none has 0" in found.told
