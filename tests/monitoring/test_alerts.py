"""Planted shifts come out as one alert with the right cause; quiet days as none."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fm_platform.monitoring import (
    Alert,
    Settings,
    alerts_of,
    detect,
    measure_day,
    measured,
    past_of,
)
from fm_platform.monitoring.alerts import Judging, graded
from fm_platform.monitoring.records import Estimate
from tests.monitoring import world

DAY = 9


def alerts(rows: pa.Table, i: int = DAY, settings: Settings | None = None) -> list[Alert]:
    profile = world.profile_of(i, rows)
    reference = world.reference()
    found = detect(measured(profile, reference), past_of(reference), reference, settings)
    return alerts_of(found, world.evidence_of(profile, rows))


def put(rows: pa.Table, name: str, values: list[object]) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize("seed", range(3))
def test_a_quiet_day_is_quiet(seed: int) -> None:
    assert alerts(world.rows_of(DAY, seed=seed + 1)) == []


def test_a_new_source_is_one_alert_that_names_it_and_its_terms() -> None:
    rows = world.rows_of(DAY, {"books": 150, "films": 150, "phones": 200})

    (alert,) = alerts(rows)

    assert alert.title == f"`source`: phones is 40 % of the rows (was 0 %) since {alert.day}"
    assert set(alert.cause.terms) <= set(world.WORDS["phones"])
    assert alert.cause.terms
    assert [repair.kind for repair in alert.repairs][-1] == "accept"


def test_a_column_that_nothing_reads_is_recorded_and_sends_nothing() -> None:
    rows = world.rows_of(DAY)
    shifted = put(rows, "price", [3 * price for price in rows["price"].to_pylist()])

    (alert,) = alerts(shifted)

    assert (alert.cause.kind, alert.cause.name) == ("range", "price")
    assert (alert.severity, alert.sends, alert.impact.importance) == ("record", False, 0.0)


def test_a_column_that_a_function_reads_is_sent_with_what_followed() -> None:
    rows = world.rows_of(DAY)
    other = {"high": "low", "low": "high"}
    shifted = world.labeled(put(rows, "rating", [other[r] for r in rows["rating"].to_pylist()]))

    (alert,) = alerts(shifted)

    assert alert.cause.name == "rating"
    assert alert.sends
    assert {f.family for f in alert.findings} & {"conflict", "function"}
    assert alert.impact.labels is not None
    assert alert.impact.labels.points < -5


def test_missing_values_are_named_as_missing() -> None:
    rows = world.rows_of(DAY)
    empty = [None if i % 2 else r for i, r in enumerate(rows["rating"].to_pylist())]

    found = alerts(world.labeled(put(rows, "rating", list(empty))))

    assert [(a.cause.kind, a.cause.name) for a in found] == [("nulls", "rating")]
    assert "are empty (was 0 %)" in found[0].title


def test_a_function_that_broke_is_the_cause_not_its_labels() -> None:
    rows = world.rows_of(DAY)
    votes = np.array(rows["votes"].to_pylist(), np.int8)
    votes[:, 0] = 1

    (alert,) = alerts(world.with_votes(rows, votes))

    assert (alert.cause.kind, alert.cause.name) == ("function", "good_word")
    assert "labeling function `good_word`" in alert.title


def test_votes_that_are_weighed_otherwise_are_no_function_that_broke() -> None:
    rows = world.rows_of(DAY)
    other = {"negative": "positive", "positive": "negative"}
    labels = [other[v] if v and i % 3 == 0 else v for i, v in enumerate(rows["label"].to_pylist())]
    rows = put(rows, "label", list(labels))
    profile, reference = world.profile_of(DAY, rows), world.reference()
    found = detect(measured(profile, reference), past_of(reference), reference)

    weighed = dict.fromkeys(("books", "films"), ("em", "majority_vote"))
    (alert,) = alerts_of(found, world.evidence_of(profile, rows, weighed))
    without = alerts_of(found, world.evidence_of(profile, rows))

    assert alert.title == (
        f"label model: majority_vote instead of em in books, films since {alert.day}"
    )
    assert alert.cause.slices == ("books", "films")
    assert [repair.kind for repair in alert.repairs] == ["function", "accept"]
    assert {one.cause.kind for one in without} == {"function"}


def test_people_who_judge_otherwise_are_found_where_they_do() -> None:
    rows = world.rows_of(DAY)
    flipped = [
        ({"positive": "negative", "negative": "positive"}[g] if r == "low" else g)
        for g, r in zip(rows["gold"].to_pylist(), rows["rating"].to_pylist(), strict=True)
    ]

    found = alerts(put(rows, "gold", list(flipped)))

    assert [a.cause.kind for a in found] == ["concept"]
    assert (found[0].cause.name, found[0].cause.value) == ("rating", "low")
    assert found[0].impact.gold is not None
    assert found[0].impact.gold.points < -10


def test_labels_that_people_call_wrong_are_found_though_the_model_was_not_asked() -> None:
    rows = world.rows_of(DAY)
    other = {"negative": "positive", "positive": "negative"}
    low = np.array(rows["rating"].to_pylist()) == "low"
    flipped = [other[g] if hit else g for g, hit in zip(rows["gold"].to_pylist(), low, strict=True)]
    profile = measure_day("p", world.day_name(DAY), put(rows, "gold", flipped), world.WATCH)

    found = detect(
        measured(profile, world.reference()), past_of(world.reference()), world.reference()
    )
    (alert,) = alerts_of(found, world.evidence_of(profile, rows))

    assert {f.metric for f in alert.findings if f.family == "accuracy"} == {"accuracy:weak"}
    assert (alert.cause.kind, alert.cause.name, alert.cause.value) == ("concept", "rating", "low")
    assert any("right weak labels on gold" in words for words in alert.words)


def test_answers_that_became_better_are_no_finding() -> None:
    rows = world.rows_of(DAY)

    agreed = pc.coalesce(rows["label"], rows["gold"]).to_pylist()

    assert alerts(put(rows, "gold", agreed)) == []


def test_a_column_that_moved_a_little_is_named_before_the_function_that_reads_it() -> None:
    rows = world.rows_of(DAY)
    other = {"high": "low", "low": "high"}
    hit = np.random.default_rng(3).random(rows.num_rows) < 0.4
    rating = rows["rating"].to_pylist()
    swapped = [other[r] if h and r == "high" else r for r, h in zip(rating, hit, strict=True)]

    (alert,) = alerts(world.labeled(put(rows, "rating", swapped)))

    assert (alert.cause.kind, alert.cause.name) == ("value", "rating")
    assert alert.cause.slices == ("books", "films")


def test_a_new_value_is_named_in_the_sources_that_have_it_alone() -> None:
    rows = world.rows_of(DAY)
    films = np.array(rows["source"].to_pylist()) == "films"
    rating = rows["rating"].to_pylist()
    shifted = put(rows, "rating", ["odd" if f else r for r, f in zip(rating, films, strict=True)])
    votes = np.array(world.labeled(shifted)["votes"].to_pylist(), np.int8)
    votes[np.flatnonzero(~films)[::2], 2] = -1  # beside it the function that reads it fell there

    (alert,) = alerts(world.with_votes(shifted, votes))

    assert (alert.cause.kind, alert.cause.name, alert.cause.value) == ("value", "rating", "odd")
    assert alert.cause.slices == ("films",)


def test_a_day_without_rows_is_one_alert() -> None:
    (alert,) = alerts(world.rows_of(DAY).slice(0, 0))

    assert alert.title.startswith("rows of all sources: 0 (usually 300)")
    assert alert.repairs[0].kind == "backfill"


def test_half_of_a_source_missing_is_one_alert_about_it() -> None:
    rows = world.rows_of(DAY, {"books": 150, "films": 20})

    found = alerts(rows)

    assert [(a.cause.kind, a.cause.name) for a in found] == [("volume", "films")]


def test_copies_of_few_texts_are_one_alert() -> None:
    rows = world.rows_of(DAY)
    books = rows.filter(pc.equal(rows["source"], "books"))
    copies = books.slice(0, 2).take(pa.array([0, 1] * 100))
    ids = pa.array([f"{i:032x}" for i in range(200)])
    flood = pa.concat_tables([rows, copies.set_column(0, "row_id", ids)])

    found = alerts(flood)

    assert [(a.cause.kind, a.cause.name) for a in found] == [("duplicates", "books")]


@pytest.mark.parametrize(
    ("points", "high", "severity"),
    [(-12, -4, "high"), (-12, 1, "low"), (-4, -1, "medium"), (-2, 3, "low"), (-0.5, 4, "record")],
)
def test_a_loss_that_may_well_be_none_is_told_and_is_not_grave(
    points: float, high: float, severity: str
) -> None:
    assert graded(Estimate(points, -20, high, "gold"), Judging()) == severity


def test_what_was_accepted_is_silent() -> None:
    rows = world.rows_of(DAY)
    shifted = put(rows, "price", [3 * price for price in rows["price"].to_pylist()])

    silent = Settings(accepted=frozenset({("column:price", "all")}))

    assert alerts(shifted, settings=silent) == []


def test_an_alert_is_read_as_it_was_written_and_keeps_its_id() -> None:
    rows = world.rows_of(DAY, {"books": 150, "films": 150, "phones": 200})
    (alert,) = alerts(rows)

    again = Alert.from_json(json.loads(json.dumps(alert.to_json())))

    assert again == alert
    assert len(alert.id) == 12


def test_hostile_values_are_inert_in_words() -> None:
    rows = world.rows_of(DAY)
    bad = "\x1b[31m<script>\u202e"
    shifted = put(rows, "rating", [bad if i % 2 else "low" for i in range(rows.num_rows)])

    words = " ".join(line for alert in alerts(world.labeled(shifted)) for line in alert.words)

    assert "\x1b" not in words
    assert "\u202e" not in words
