"""A profile holds what its rows say, survives being written, and merges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from fm_platform.errors import CorruptArtifactError
from fm_platform.monitoring import ALL, merge_profiles, with_answers
from fm_platform.monitoring.measure import Watch, measure_day, with_embeddings
from fm_platform.monitoring.profile import Profile
from fm_platform.monitoring.sketches import CategorySketch, NumericSketch

CLASSES = ("negative", "positive")
WATCH = Watch(("price", "shop"), CLASSES, ("words",), sample_rows=3)


def day_of(day: str, start: int = 0) -> pa.Table:
    ids = [f"{i:032x}" for i in range(start, start + 8)]
    return pa.table(
        {
            "row_id": ids[::-1],
            "source": ["books", "films"] * 4,
            "text": ["a good screen"] * 6 + ["bad plot", None],
            "text_key": ["k1"] * 6 + ["k2", "k3"],
            "price": pa.array([1.0, 2.0, None, 4.0, 5.0, 6.0, 7.0, 8.0]),
            "shop": ["north", "south", None, "north", "north", "south", "north", "north"],
            "votes": pa.array([[1], [-1], [1], [1], [0], [0], [-1], [1]], pa.list_(pa.int8())),
            "label": ["positive", None, "positive", "positive", "negative", "positive", None,
                      "positive"],
            "confidence": pa.array([0.9] * 8, pa.float32()),
        }
    )  # fmt: skip


def counts(profile: Profile, metric: str, name: str = ALL) -> dict[str, int]:
    sketch = profile.sketch(metric, name)
    assert isinstance(sketch, CategorySketch)
    return dict(sketch.counts)


def test_a_day_is_counted_by_source() -> None:
    profile = measure_day("p", "2026-01-02", day_of("2026-01-02"), WATCH)

    assert profile.rows == {"books": 4, "films": 4, ALL: 8}
    assert counts(profile, "column:shop") == {"(empty)": 1, "north": 5, "south": 2}
    assert counts(profile, "column:shop", "films") == {"north": 2, "south": 2}
    assert counts(profile, "function:words") == {"abstains": 2, "negative": 2, "positive": 4}
    assert counts(profile, "conflict:words") == {"agrees": 5, "conflicts": 1}
    assert counts(profile, "duplicates:text") == {"once": 2, "repeated": 6}
    assert counts(profile, "terms:text") == {"bad": 1, "good": 6, "plot": 1, "screen": 6}
    price = profile.sketch("column:price", "books")
    assert isinstance(price, NumericSketch)
    assert (price.rows, price.nulls) == (3, 1)


def test_the_sample_is_the_smallest_ids_of_each_source() -> None:
    profile = measure_day("p", "2026-01-02", day_of("2026-01-02"), WATCH)

    assert profile.sample is not None
    assert profile.sample["source"].to_pylist() == ["books"] * 3 + ["films"] * 3
    assert profile.sample["row_id"].to_pylist()[0] == f"{1:032x}"


def test_a_written_profile_is_read_as_it_was() -> None:
    made = measure_day("p", "2026-01-02", day_of("2026-01-02"), WATCH)
    profile = with_embeddings(made, np.eye(6, 8, dtype=np.float32))

    again = Profile.from_table(profile.to_table())

    assert again.to_table() == profile.to_table()
    assert (again.days, again.classes, again.rows) == (profile.days, CLASSES, profile.rows)
    with pytest.raises(CorruptArtifactError, match="no profile"):
        Profile.from_table(profile.to_table().slice(1))


def test_two_days_merge_to_the_profile_of_both() -> None:
    days = [
        measure_day("p", day, day_of(day, start), WATCH)
        for day, start in (("2026-01-03", 100), ("2026-01-02", 0))
    ]

    both = merge_profiles(days, sample_rows=4)

    assert both.days == ("2026-01-02", "2026-01-03")
    assert both.rows[ALL] == 16
    assert counts(both, "column:shop")["north"] == 10
    assert both.sample is not None
    assert both.sample.num_rows == 8


def test_rows_that_people_labeled_are_kept_beside_the_sample_once() -> None:
    def labeled(day: str, start: int) -> Profile:
        rows = day_of(day, start)
        gold = ["positive" if i % 2 else None for i in range(rows.num_rows)]
        return measure_day("p", day, rows.append_column("gold", pa.array(gold)), WATCH)

    one, other = labeled("2026-01-02", 0), labeled("2026-01-03", 100)
    assert one.sample is not None
    assert one.judged is not None
    sampled, beside = (set(t["row_id"].to_pylist()) for t in (one.sample, one.judged))
    assert beside
    assert not sampled & beside
    assert one.judged["gold"].null_count == 0

    both = merge_profiles([one, other], sample_rows=2)
    again = Profile.from_table(both.to_table())

    assert both.sample is not None
    assert both.judged is not None
    ids = [*both.sample["row_id"].to_pylist(), *both.judged["row_id"].to_pylist()]
    assert len(ids) == len(set(ids))
    assert again.judged == both.judged


def test_answers_are_compared_with_weak_labels_and_gold() -> None:
    profile = measure_day("p", "2026-01-02", day_of("2026-01-02"), WATCH)
    assert profile.sample is not None
    sample = profile.sample.append_column("gold", pa.array(["positive"] * 5 + [None]))
    told = np.tile([0.2, 0.8], (6, 1))

    sample = sample.append_column("champion", pa.array(list(told), pa.list_(pa.float32())))
    joined = with_answers(replace(profile, sample=sample))

    assert counts(joined, "answer:champion") == {"positive": 6}
    assert counts(joined, "accuracy:champion") == {"right": 5}
    assert "accuracy:champion" not in profile.slices[ALL]


def test_all_rows_that_people_labeled_say_how_good_answers_are() -> None:
    rows = day_of("2026-01-02").append_column("gold", pa.array(["positive"] * 8))
    made = measure_day("p", "2026-01-02", rows, replace(WATCH, sample_rows=1, judged_rows=2))
    assert made.sample is not None
    assert made.judged is not None
    told = pa.array([[0.2, 0.8]], pa.list_(pa.float32()))
    sides = [
        side.append_column("champion", pa.chunked_array([told] * side.num_rows))
        for side in (made.sample, made.judged)
    ]

    answered = with_answers(replace(made, sample=sides[0], judged=sides[1]))

    assert counts(answered, "answer:champion") == {"positive": 2}
    assert counts(answered, "accuracy:champion") == {"right": 6}
    assert sum(counts(made, "accuracy:weak").values()) == 8 - rows["label"].null_count


def test_dates_are_measured_from_their_day() -> None:
    import datetime as dt

    rows = pa.table({"row_id": ["a"], "source": ["s"], "sold": pa.array([dt.date(2026, 1, 1)])})

    profile = measure_day("p", "2026-01-02", rows, Watch(("sold",)))

    sold = profile.sketch("column:sold")
    assert isinstance(sold, NumericSketch)
    assert sold.mean == 2.0
