"""Metrics equal scikit-learn's; intervals cover; differences are paired."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fm_platform.errors import EvaluationError
from fm_platform.evaluation.metrics import (
    ALL,
    METRICS,
    SystemPredictions,
    differences,
    measure,
    reliability,
)
from fm_platform.spec.models import Evaluation

FAST = Evaluation(bootstrap_samples=100)


def random_system(n: int, k: int, seed: int, right: float = 0.7) -> tuple[
    SystemPredictions, np.ndarray, list[str]
]:  # fmt: skip
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, k, n)
    labels = np.where(rng.random(n) < right, gold, rng.integers(-1, k, n))
    probabilities = rng.dirichlet(np.ones(k), n)
    sources = [f"s{i}" for i in rng.integers(0, 3, n)]
    return SystemPredictions(labels, probabilities), gold, sources


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 60), k=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_point_values_equal_scikit_learn(n: int, k: int, seed: int) -> None:
    system, gold, sources = random_system(n, k, seed)

    measured = measure({"x": system}, gold, sources, k, FAST)["x"]

    names = np.array(sources)
    for source, found in measured.items():
        rows = np.ones(n, bool) if source == ALL else names == source
        g, a, p = gold[rows], system.labels[rows], system.probabilities[rows]
        present = sorted(set(g) | set(a[a >= 0]))
        expected = {
            "f1_weighted": sk.f1_score(g, a, labels=range(k), average="weighted", zero_division=0),
            "f1_macro": sk.f1_score(g, a, labels=present, average="macro", zero_division=0),
            "accuracy": sk.accuracy_score(g, a),
            "log_loss": sk.log_loss(g, np.clip(p, 1e-7, 1), labels=range(k)),
        }
        assert found.n == rows.sum()
        for name, value in expected.items():
            assert found.values[name].value == pytest.approx(value, abs=2e-6), name
        assert set(found.values) == set(METRICS)


def slow_ece(probabilities: np.ndarray, gold: np.ndarray, bins: int) -> float:
    total = 0.0
    for i in range(bins):
        low, high = i / bins, (i + 1) / bins
        confidence = probabilities.max(axis=1)
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            correct = probabilities.argmax(axis=1)[inside] == gold[inside]
            total += inside.sum() / len(gold) * abs(correct.mean() - confidence[inside].mean())
    return total


def test_calibration_error_equals_the_definition() -> None:
    system, gold, sources = random_system(500, 3, 1)

    measured = measure({"x": system}, gold, sources, 3, FAST)["x"][ALL]

    expected = slow_ece(system.probabilities, gold, FAST.calibration_bins)
    assert measured.values["ece"].value == pytest.approx(expected, abs=1e-6)
    curve = reliability(system, gold, FAST.calibration_bins)
    by_curve = sum(row["n"] * abs(row["confidence"] - row["correct"]) for row in curve) / 500
    assert by_curve == pytest.approx(expected, abs=1e-5)


def test_abstentions_count_as_wrong_and_as_no_answer() -> None:
    gold = np.array([0, 0, 1, 1])
    abstaining = SystemPredictions(np.array([0, -1, 1, -1]))

    row = measure({"x": abstaining}, gold, ["s"] * 4, 2, FAST)["x"][ALL]

    assert row.values["accuracy"].value == 0.5
    assert row.values["f1_weighted"].value == pytest.approx(2 / 3, abs=1e-6)
    assert row.values["log_loss"] is None
    assert row.values["ece"] is None


def test_unmeasured_rows_are_left_out() -> None:
    system, gold, sources = random_system(200, 3, 2)
    only = np.array([s == "s1" for s in sources])
    part = SystemPredictions(system.labels, system.probabilities, only)

    whole = measure({"x": system}, gold, sources, 3, FAST)["x"]
    measured = measure({"x": part}, gold, sources, 3, FAST)["x"]

    assert set(measured) == {ALL, "s1"}
    assert measured[ALL] == measured["s1"]
    assert measured["s1"] == whole["s1"]


def test_perfect_and_useless_systems_have_points_for_intervals() -> None:
    gold = np.array([0, 1] * 50)
    systems = {"right": SystemPredictions(gold), "wrong": SystemPredictions(1 - gold)}

    measured = measure(systems, gold, ["s"] * 100, 2, FAST)

    for name, value in (("right", 1.0), ("wrong", 0.0)):
        interval = measured[name][ALL].values["f1_weighted"]
        assert (interval.value, interval.low, interval.high) == (value, value, value)


def test_interval_of_accuracy_matches_the_normal_approximation() -> None:
    system, gold, sources = random_system(2000, 3, 3)

    interval = measure({"x": system}, gold, sources, 3, Evaluation())["x"][ALL].values["accuracy"]

    share = interval.value
    half = 1.96 * np.sqrt(share * (1 - share) / 2000)
    assert interval.high - share == pytest.approx(half, rel=0.15)
    assert share - interval.low == pytest.approx(half, rel=0.15)


def test_intervals_cover_the_truth() -> None:
    covered = 0
    for seed in range(100):
        system, gold, sources = random_system(150, 2, seed, right=0.6)
        interval = measure({"x": system}, gold, sources, 2, FAST)["x"][ALL].values["accuracy"]
        covered += interval.low <= 0.6 + 0.4 / 3 <= interval.high

    assert covered >= 88


def test_every_interval_holds_its_value() -> None:
    system, gold, sources = random_system(300, 4, 5)

    for row in measure({"x": system}, gold, sources, 4, FAST)["x"].values():
        for interval in row.values.values():
            assert interval.low <= interval.value <= interval.high


def test_same_seed_same_numbers_another_seed_others() -> None:
    system, gold, sources = random_system(300, 3, 6)

    first = measure({"x": system}, gold, sources, 3, FAST)
    again = measure({"x": system, "y": system}, gold, sources, 3, FAST)
    other = measure({"x": system}, gold, sources, 3, FAST.model_copy(update={"seed": 1}))

    assert again["x"] == first["x"] == again["y"]
    assert other != first


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(7)
    gold = rng.integers(0, 3, 600)
    worse = np.where(rng.random(600) < 0.7, gold, (gold + 1) % 3)
    better = worse.copy()
    better[:12] = gold[:12]
    sources = ["a", "b"] * 300

    found = differences(
        SystemPredictions(better), SystemPredictions(worse), gold, sources, 3, Evaluation()
    )
    same = differences(
        SystemPredictions(worse), SystemPredictions(worse), gold, sources, 3, Evaluation()
    )

    assert [d.source for d in found] == [ALL, "a", "b"]
    # Two independent intervals of this width would overlap by far.
    assert 0 < found[0].interval.value < 0.02
    assert found[0].interval.high < 0.03
    assert all((d.interval.low, d.interval.high) == (0, 0) for d in same)


def test_difference_is_antisymmetric() -> None:
    one, gold, sources = random_system(200, 3, 8)
    two = SystemPredictions(np.roll(one.labels, 1), one.probabilities)

    for metric in METRICS:
        ab = differences(one, two, gold, sources, 3, FAST, metric)
        ba = differences(two, one, gold, sources, 3, FAST, metric)
        assert [d.interval.value for d in ab] == [-d.interval.value for d in ba]
        assert [d.interval.low for d in ab] == pytest.approx([-d.interval.high for d in ba])


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], None, "labels of x do not match gold"),
        ([0, 1, 2], None, "answers outside the taxonomy"),
        ([0, 1, -2], None, "answers outside the taxonomy"),
        ([0, 1, 0], np.ones((2, 2)) / 2, "do not match gold"),
        ([0, 1, 0], np.ones((3, 3)) / 3, "do not match the taxonomy"),
        ([0, 1, 0], np.ones((3, 2)), "do not sum to 1"),
        ([0, 1, 0], np.array([[np.nan, 1], [0, 1], [0, 1]]), "not finite"),
        ([0, 1, 0], np.array([[-0.5, 1.5], [0, 1], [0, 1]]), "negative"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(
    labels: list[int], probabilities: np.ndarray | None, message: str
) -> None:
    system = SystemPredictions(np.array(labels), probabilities)

    with pytest.raises(EvaluationError, match=message):
        measure({"x": system}, np.array([0, 1, 0]), ["s"] * 3, 2, FAST)


@pytest.mark.parametrize(
    ("gold", "sources", "message"),
    [
        ([], [], "no gold rows"),
        ([0, 1], ["s"], "sources do not match"),
        ([0, 2], ["s", "s"], "outside the taxonomy"),
        ([0, 1], ["s", "all"], "may not be called"),
    ],
)
def test_gold_that_does_not_fit_is_refused(
    gold: list[int], sources: list[str], message: str
) -> None:
    system = SystemPredictions(np.zeros(len(gold), dtype=int))

    with pytest.raises(EvaluationError, match=message):
        measure({"x": system}, np.array(gold, dtype=int), sources, 2, FAST)


def test_a_metric_without_probabilities_is_refused() -> None:
    system = SystemPredictions(np.array([0, 1]))

    with pytest.raises(EvaluationError, match="needs probabilities"):
        differences(system, system, np.array([0, 1]), ["s", "s"], 2, FAST, "log_loss")
    with pytest.raises(EvaluationError, match="no such metric"):
        differences(system, system, np.array([0, 1]), ["s", "s"], 2, FAST, "auc")
