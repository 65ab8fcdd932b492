"""Bands follow what is usual: on that weekday, and for that metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.monitoring import Measured, detect, measured, past_of
from fm_platform.monitoring.compare import Comparison, _range
from fm_platform.monitoring.detect import LEAST_EFFECT, holm
from fm_platform.monitoring.sketches import NumericSketch
from tests.monitoring import world

KEY = ("column:price", "books")


def comparison(surprise: float) -> Comparison:
    return Comparison("range", 1.0, 2.0, 0.5, surprise, ("KS", 0.5), 100)


def past(surprises: list[float]) -> list[Measured]:
    return [Measured(world.day_name(i), {KEY: comparison(one)}) for i, one in enumerate(surprises)]


def found(surprise: float, earlier: list[float], day: int = 28) -> int:
    today = Measured(world.day_name(day), {KEY: comparison(surprise)})
    return len(detect(today, past(earlier), world.reference()))


def test_what_is_usual_for_a_metric_is_no_finding() -> None:
    assert found(40.0, [1.0] * 28) == 1
    assert found(40.0, [20.0] * 28) == 0


def test_what_is_usual_on_that_weekday_is_no_finding() -> None:
    sundays = [50.0 if i % 7 == 0 else 1.0 for i in range(28)]

    assert found(60.0, sundays, day=28) == 0
    assert found(60.0, sundays, day=29) == 1


def test_one_past_shift_does_not_hide_the_next() -> None:
    assert found(60.0, [1.0] * 26 + [2_000.0, 1.0]) == 1


def test_a_finding_knows_since_when() -> None:
    reference = world.reference()
    shifted = {}
    for i in (9, 10):
        rows = world.rows_of(i)
        price = [4 * p for p in rows["price"].to_pylist()]
        spot = rows.column_names.index("price")
        shifted[i] = rows.set_column(spot, "price", [price])
    earlier = measured(world.profile_of(9, shifted[9]), reference)

    (one, *_) = detect(
        measured(world.profile_of(10, shifted[10]), reference),
        [*past_of(reference), replace(earlier, flagged=frozenset(earlier.compared))],
        reference,
    )

    assert one.metric == "column:price"
    assert (one.since, one.day) == (world.day_name(9), world.day_name(10))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_corrected_chances_are_larger_ordered_alike_and_at_most_one(chances: list[float]) -> None:
    corrected = holm(chances)

    assert all(c <= after <= 1 for c, after in zip(chances, corrected, strict=True))
    assert min(corrected) == pytest.approx(min(1.0, len(chances) * min(chances)))


def test_a_confidence_that_moves_little_on_every_row_is_no_finding() -> None:
    # a label model that was fitted again says 0.848 where it said 0.876
    patterns = np.random.default_rng(0).choice([0.5, 0.876], 600, p=[0.2, 0.8])

    def one(numbers: np.ndarray) -> Comparison | None:
        sides = [NumericSketch.of(numbers), NumericSketch.of(patterns)]
        return _range(sides[0], sides[1], inside=False, bounded=True)

    refitted, surely_less = one(patterns - 0.02), one(patterns - 0.1)

    assert refitted is not None
    assert surely_less is not None
    assert refitted.statistic[1] > 0.7
    assert refitted.distance == pytest.approx(0.02)
    assert refitted.distance < LEAST_EFFECT["confidence"] < surely_less.distance


def test_what_a_refitted_label_model_says_of_a_young_source_is_no_finding_yet() -> None:
    weak, price = ("confidence:weak", "books"), KEY
    moved = {key: comparison(400.0) for key in (weak, price)}
    known = world.reference()

    def keys(days: int) -> set[tuple[str, str]]:
        calm = [Measured(world.day_name(i), {weak: comparison(1.0), price: comparison(1.0)})
                for i in range(28 - days, 28)]  # fmt: skip
        return {one.key for one in detect(Measured(world.day_name(28), moved), calm, known)}

    assert keys(1) == {price}
    assert keys(3) == {price, weak}
