"""What a shift costs: estimated without gold, put right by gold, and honest where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fm_platform.monitoring.answered import Answered, calibrate, weights
from fm_platform.monitoring.impact import Left, assisted, estimate, mix_effect
from fm_platform.monitoring.records import Estimate


def rows(
    seed: int, n: int, skill: float, gold: float = 1.0, flipped: bool = False,
    labels: float = 0.8, source: str = "mail",
) -> tuple[Answered, float]:  # fmt: skip
    """Answers of a model that is right as often as it is sure, and how often that is.

    The weak label is right in `labels` of the rows, whatever the model says.
    """
    generator = np.random.default_rng(seed)
    sure = np.clip(generator.beta(4 * skill, 4 * (1 - skill), n), 0.4, 0.99)
    right = (generator.random(n) < sure).astype(float)
    weak_right = (generator.random(n) < labels).astype(float)
    agrees = np.where(right == weak_right, 1.0, -1.0)
    seen = 1 - right if flipped else right
    judged = generator.random(n) < gold
    vectors = np.column_stack([sure, generator.normal(size=(n, 3))])
    return Answered(
        sure, np.where(judged, seen, np.nan), np.where(agrees > 0, sure, 1 - sure), agrees,
        np.where(judged, weak_right, np.nan), vectors, np.full(n, source, object),
    ), float(seen.mean())  # fmt: skip


def both(one: Answered, other: Answered) -> Answered:
    return Answered(
        *(np.concatenate([getattr(side, name) for side in (one, other)]) for name in FIELDS)
    )


FIELDS = tuple(name for name in Answered.__dataclass_fields__ if name != "beside")


@pytest.mark.parametrize("skill", [0.5, 0.65, 0.9])
def test_without_gold_a_change_of_the_rows_is_estimated(skill: float) -> None:
    before, was = rows(1, 3_000, 0.8)
    today, is_ = rows(2, 800, skill, gold=0.0)

    told = estimate(today, before).without_gold

    assert told is not None
    assert told.points == pytest.approx(100 * (is_ - was), abs=4)


def test_a_change_of_what_people_mean_is_seen_on_gold_only() -> None:
    before, was = rows(1, 3_000, 0.8)
    today, is_ = rows(2, 1_200, 0.8, gold=0.3, flipped=True)

    told = estimate(today, before)

    assert told.without_gold is not None
    assert abs(told.without_gold.points) < 4
    assert told.best is not None
    assert told.best.points == pytest.approx(100 * (is_ - was), abs=8)


def test_labels_that_broke_are_seen_where_people_judged_some() -> None:
    before, _ = rows(1, 3_000, 0.8)
    today, _ = rows(2, 1_200, 0.8, gold=0.3, labels=0.5)

    told = estimate(today, before)

    assert told.labels is not None
    assert told.labels.points == pytest.approx(-30, abs=5)
    assert told.best is not None
    assert abs(told.best.points) < 5  # the live model reads none of it


def test_a_sample_counts_as_many_rows_of_a_source_as_the_day_has() -> None:
    before = both(rows(1, 2_000, 0.8)[0], rows(2, 2_000, 0.8, source="chat")[0])
    good, bad = rows(3, 400, 0.9), rows(4, 400, 0.5, source="chat")
    day = {"mail": 9_000, "chat": 1_000}

    today = both(good[0], bad[0])
    told = estimate(today, before, day=day, expected=day)

    usual = np.average([before.right[:2_000].mean(), before.right[2_000:].mean()], weights=[9, 1])
    assert told.best is not None
    assert told.best.points == pytest.approx(100 * (0.9 * good[1] + 0.1 * bad[1] - usual), abs=3)
    assert weights(today, day)[:400].sum() == pytest.approx(0.9)


def test_more_rows_of_a_harder_source_cost_points_though_each_source_is_as_it_was() -> None:
    before = both(rows(1, 3_000, 0.9)[0], rows(2, 3_000, 0.6, source="chat")[0])

    same = mix_effect(before, {"mail": 50, "chat": 50}, {"mail": 1.0, "chat": 1.0})
    harder = mix_effect(before, {"mail": 10, "chat": 90}, {"mail": 1.0, "chat": 1.0})

    assert same == pytest.approx(0.0)
    assert harder == pytest.approx(-0.4 * 30, abs=2)


def test_few_gold_rows_by_chance_off_do_not_move_much() -> None:
    guess = Estimate(-1.0, -2.0, 0.0, "confidence", 400)
    left = np.random.default_rng(0).normal(0.05, 0.45, 40)
    then = Left(np.zeros(900), np.ones(900), 900)

    few = assisted(guess, Left(left, np.ones(40), 100_000), then)
    whole = assisted(guess, Left(left, np.ones(40), 40), then)

    seen = 100 * float(left.mean())
    assert abs(few.points - guess.points) < abs(seen) / 2
    assert few.low < guess.points < few.high
    # all rows of the day: nothing is left to guess
    assert whole.points == pytest.approx(guess.points + seen, abs=0.01)


def test_gold_rows_beside_the_sample_make_the_estimate_surer() -> None:
    before, _ = rows(1, 3_000, 0.8)
    whole, is_ = rows(2, 4_000, 0.8, gold=0.3, flipped=True)
    kept = np.arange(400)
    sample, rest = part(whole, kept), part(whole, np.setdiff1d(np.arange(4_000), kept))

    without = estimate(sample, before, day={"mail": 4_000})
    told = estimate(replace(sample, beside=rest.judged), before, day={"mail": 4_000})

    assert without.best is not None
    assert told.best is not None
    assert told.best.rows > 5 * without.best.rows
    assert told.best.high - told.best.low < 0.6 * (without.best.high - without.best.low)
    assert told.best.points == pytest.approx(100 * (is_ - before.right.mean()), abs=4)


@pytest.mark.parametrize("gold", [40, 90, 300])
@pytest.mark.parametrize("wrong", [0.0, -0.04, -0.25])
def test_the_interval_of_an_estimate_holds_as_often_as_it_says(gold: int, wrong: float) -> None:
    """The estimate without gold is wrong by so much; some of 300 rows are judged."""
    generator = np.random.default_rng(gold)
    guess, held = Estimate(0.0, -1.0, 1.0, "confidence", 300), 0
    then = Left(generator.normal(0, 0.45, 4_000), np.ones(4_000), 4_000)
    for _ in range(400):
        day = (generator.random(300) < 0.7 + wrong) - 0.7
        told = assisted(guess, Left(day[:gold], np.ones(gold), 300), then)
        held += told.low <= 100 * (day.mean() - then.errors.mean()) <= told.high

    assert 0.75 <= held / 400 <= 1.0


def part(whole: Answered, kept: np.ndarray) -> Answered:
    return Answered(*(getattr(whole, name)[kept] for name in FIELDS))


@pytest.mark.parametrize("boast", [0.0, 2.0, 6.0])
def test_a_model_that_is_much_too_sure_is_calibrated_as_well(boast: float) -> None:
    generator = np.random.default_rng(0)
    agrees = np.where(generator.random(600) < 0.65, 1.0, -1.0)
    right = (generator.random(600) < np.where(agrees > 0, 0.9, 0.2)).astype(float)
    told = np.column_stack([boast + generator.normal(0, 1 + boast, 600), agrees])

    line = calibrate(told, right)

    assert line.told(told).mean() == pytest.approx(right.mean(), abs=0.01)
    for side in (-1.0, 1.0):
        rows = agrees == side
        assert line.told(told)[rows].mean() == pytest.approx(right[rows].mean(), abs=0.03)
