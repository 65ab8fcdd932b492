"""Real tables, real functions: what one edit does, from the cause down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.stages.diff import Diff, Wanted, diff
from fm_platform.workspace import Workspace
from tests.stages.diff.worlds import DAY, build_day, evaluate, model, write_project


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


@pytest.fixture
def edited(ws: Workspace, tmp_path: Path) -> Diff:
    """`fine` became a word of `good_words`, and short texts go."""
    before = build_day(ws, write_project(tmp_path / "small"))
    after = build_day(ws, write_project(tmp_path / "small", good="great, fine", least=10))
    return diff(ws, before, after)


def test_an_edit_is_told_from_the_cause_down(edited: Diff) -> None:
    causes = {(c.kind, c.name): c for c in edited.causes}

    assert set(causes) == {("votes", "good_words"), ("cleaned", "cleaned")}
    assert causes["votes", "good_words"].what == "labeling function changed"
    assert causes["votes", "good_words"].path == (
        f"votes/good_words/{DAY}", f"weak_labels/{DAY}", f"cleaned/{DAY}",
    )  # fmt: skip
    assert [(s.path, s.before, s.after, s.artifacts) for s in edited.settings] == [
        ("rules[length].min_chars", 3, 10, ("cleaned",))
    ]


def test_a_changed_function_shows_its_source_and_its_votes(edited: Diff) -> None:
    (function,) = edited.functions

    assert (function.name, function.status, function.recorded) == ("good_words", "changed", True)
    assert (function.days, function.rows, function.votes_changed) == (1, 60, 20)
    added = [line for line in function.source if line.startswith("+") and "fine" in line]
    assert added


def test_rows_that_came_and_changed_are_counted_in_every_table(edited: Diff) -> None:
    found = {change.table: change for change in edited.rows}

    assert set(found) == {"weak_labels", "cleaned"}
    # 20 rows had no vote: they have one now, and so they are not removed any more
    assert found["weak_labels"].relabeled == 20
    assert {(r.before, r.after) for r in found["weak_labels"].labels} == {(None, "good")}
    assert found["cleaned"].added > 0
    assert found["cleaned"].removed == 0
    assert all("fine" in str(e.text) for e in found["cleaned"].examples if e.before is None)


def test_the_files_of_both_definitions_are_compared(edited: Diff) -> None:
    assert [(f.name, f.status) for f in edited.files] == [("defs.yaml", "changed")]


def test_a_helper_that_changed_is_found_in_the_files(ws: Workspace, tmp_path: Path) -> None:
    before = build_day(ws, write_project(tmp_path / "small"))
    after = build_day(ws, write_project(tmp_path / "small", short=26))

    told = diff(ws, before, after)

    (function,) = told.functions
    assert (function.name, function.status, function.source) == ("short", "changed", ())
    (file,) = told.files
    assert "-SHORT = 5" in file.source
    assert "+SHORT = 26" in file.source


def test_a_diff_of_a_version_with_itself_is_empty(ws: Workspace, tmp_path: Path) -> None:
    day = build_day(ws, write_project(tmp_path / "small"))

    told = diff(ws, day, day)

    assert told.same_content
    assert told.same_recipe
    assert (told.causes, told.changes, told.rows, told.functions) == ((), (), (), ())


def test_the_ledger_alone_tells_causes_without_reading_a_table(
    ws: Workspace, tmp_path: Path
) -> None:
    before = build_day(ws, write_project(tmp_path / "small"))
    after = build_day(ws, write_project(tmp_path / "small", good="fine"))
    (tmp_path / "home" / "lake").rename(tmp_path / "away")

    told = diff(ws, before, after, Wanted(contents=False))

    assert [c.name for c in told.causes] == ["good_words"]
    assert told.rows == ()


def test_rows_that_are_not_kept_any_more_are_noted_not_an_error(
    ws: Workspace, tmp_path: Path
) -> None:
    before = build_day(ws, write_project(tmp_path / "small"))
    after = build_day(ws, write_project(tmp_path / "small", good="fine"))
    for file in ws.table_ref(before, "cleaned").files:
        (tmp_path / "home" / "lake" / "small" / "cleaned" / file.path).unlink()

    told = diff(ws, before, after)

    assert [r.table for r in told.rows] == ["weak_labels"]
    assert any(note.startswith("rows of cleaned not compared") for note in told.notes)


def test_kinds_that_have_nothing_in_common_are_refused(ws: Workspace, tmp_path: Path) -> None:
    day = build_day(ws, write_project(tmp_path / "small"))
    raw = ws.ledger.latest("small", "raw", "raw", DAY)
    assert raw is not None

    with pytest.raises(FMError, match="different kinds"):
        diff(ws, raw, day)


def test_two_definitions_are_compared_file_by_file(ws: Workspace, tmp_path: Path) -> None:
    build_day(ws, write_project(tmp_path / "small"))
    before = ws.ledger.latest("small", "spec", "spec")
    build_day(ws, write_project(tmp_path / "small", least=4, short=6))
    after = ws.ledger.latest("small", "spec", "spec")
    assert before is not None
    assert after is not None

    told = diff(ws, before, after)

    assert [f.name for f in told.files] == ["defs.yaml", "labeling_functions.py"]
    assert ("cleaning[length].min_chars", 3, 4) in [
        (s.path, s.before, s.after) for s in told.settings
    ]


def test_a_label_model_tells_what_its_functions_are_worth(ws: Workspace, tmp_path: Path) -> None:
    build_day(ws, write_project(tmp_path / "small"))
    before = ws.ledger.latest("small", "label_model", "label_model", DAY)
    build_day(ws, write_project(tmp_path / "small", good="great, fine"))
    after = ws.ledger.latest("small", "label_model", "label_model", DAY)
    assert before is not None
    assert after is not None

    values = {v.path: (v.before, v.after) for v in diff(ws, before, after).values}

    assert values["functions.all.good_words.coverage"] == (
        pytest.approx(1 / 3, abs=1e-3), pytest.approx(2 / 3, abs=1e-3),
    )  # fmt: skip


def test_answers_are_paired_on_common_rows_only(ws: Workspace) -> None:
    first, second = model(ws, "first"), model(ws, "second")
    gold = ["good", "good", "bad", "bad", "good", "bad"]
    one: list[str | None] = ["good", "bad", "bad", "good", "good", None]
    two: list[str | None] = ["good", "good", "good", "good", "bad", "bad"]
    evaluate(ws, {"merged_model": one}, gold, {"merged_model": first})
    evaluate(ws, {"merged_model": two}, gold, {"merged_model": second}, first_row=2)

    (told,) = diff(ws, first, second).answers

    # rows 2..5 of the first meet rows 0..3 of the second: their gold labels differ
    assert told.common == 4
    assert told.flips[0].rows == 4
    assert all(change.difference is None for change in told.metrics)


def test_flips_and_paired_differences_of_one_evaluation(ws: Workspace) -> None:
    old, new = model(ws, "old"), model(ws, "new")
    gold = ["good", "good", "bad", "bad", "good", "bad"] * 5
    champion: list[str | None] = ["good", "bad", "bad", "good", "good", None] * 5
    merged: list[str | None] = ["good", "good", "good", "good", "bad", "bad"] * 5
    # in an evaluation of its own, too: the one that holds both is preferred
    evaluate(ws, {"merged_model": champion}, gold, {"merged_model": old})
    both = evaluate(
        ws, {"merged_model": merged, "champion": champion}, gold,
        {"merged_model": new, "champion": old},
    )  # fmt: skip

    (told,) = diff(ws, old, new, Wanted(examples=2)).answers

    assert (told.before_system, told.after_system) == ("champion", "merged_model")
    assert told.before_evaluation == told.after_evaluation == both.content_hash
    overall = told.flips[0]
    assert (overall.source, overall.rows) == ("all", 30)
    assert (overall.fixed, overall.broken, overall.other) == (10, 10, 0)
    accuracy = next(m for m in told.metrics if (m.source, m.metric) == ("all", "accuracy"))
    assert accuracy.before is not None
    assert accuracy.after is not None
    assert accuracy.difference is not None
    assert accuracy.before["value"] == accuracy.after["value"] == pytest.approx(0.5)
    assert accuracy.difference["low"] <= 0 <= accuracy.difference["high"]
    assert [(f.before == f.gold, f.after == f.gold) for f in told.examples] == [
        (True, False), (True, False), (False, True), (False, True),
    ]  # fmt: skip


def test_a_model_that_was_never_evaluated_is_noted(ws: Workspace) -> None:
    told = diff(ws, model(ws, "one"), model(ws, "two"), Wanted(contents=True))

    assert told.answers == ()
    assert [n for n in told.notes if n.endswith("has not been evaluated")] == [
        "merged_model#1 has not been evaluated", "merged_model#2 has not been evaluated",
    ]  # fmt: skip


def test_evaluations_are_compared_system_by_system(ws: Workspace) -> None:
    gold = ["good", "bad"] * 4
    one = evaluate(
        ws, {"merged_model": ["good"] * 8, "words": ["bad"] * 8}, gold,
        {"merged_model": model(ws, "one")},
    )  # fmt: skip
    two = evaluate(ws, {"merged_model": gold}, gold, {"merged_model": model(ws, "two")})

    told = diff(ws, one, two)

    assert [a.after_system for a in told.answers] == ["merged_model"]
    assert told.answers[0].flips[0].fixed == 4


def test_the_result_is_plain_json(edited: Diff) -> None:
    told = json.loads(json.dumps(edited.to_json(), allow_nan=False))

    assert told["after"]["reference"] == f"cleaned/{DAY}#2"
    assert told["functions"][0]["votes_changed"] == 20
