"""Answers of people: kept by versions, read in the classes of today, never asked twice."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.sources.ingest import text_key
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import annotations as stage
from fm_platform.stages.annotations import answers, readable, save, seen_by
from fm_platform.workspace import Workspace


def spec(**changed: Any) -> ProjectSpec:
    fields = {
        "name": "shop",
        "taxonomy": {"classes": ["bad", "good"]},
        "calendar": {"start": "2026-01-01"},
        "sources": [{"name": "mail"}],
    }
    return ProjectSpec.model_validate(fields | changed)


def annotation(version: str, *, semantic: bool, classes: tuple[str, ...] = ()) -> dict[str, Any]:
    change = {"version": version, "semantic": semantic, "classes": classes}
    return {"guideline": {"version": version, "changes": [change]}}


SPLIT = {
    "version": 2,
    "classes": ["bad", "fine", "great"],
    "changes": [{"version": 2, "split": {"good": ["fine", "great"]}}],
}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path))


def say(
    ws: Workspace, declared: ProjectSpec, *said: tuple[str, str | None, str], **more: Any
) -> int:
    records = [{"text": t, "label": label, "annotator": who, **more} for t, label, who in said]
    return save(ws, declared, records, RunContext())


def test_an_answer_keeps_the_versions_under_which_it_was_given(ws: Workspace) -> None:
    say(ws, spec(), ("nice", "good", "ann"), answered_at="2026-01-02T10:00:00Z")

    (row,) = answers(ws, spec()).to_pylist()
    names = ("label", "annotator", "guideline_version", "interface_version", "taxonomy_version")
    assert [row[name] for name in names] == ["good", "ann", "1", "1", 1]
    assert row["text_key"] == text_key("NICE ")  # by content: case and spacing do not count


def test_the_same_answers_again_change_nothing(ws: Workspace) -> None:
    said = (("nice", "good", "ann"), ("poor", "bad", "ann"), ("nice", "bad", "bob"))
    first, again = say(ws, spec(), *said), say(ws, spec(), *said)

    assert (first, again) == (3, 0)
    assert say(ws, spec(), ("nice", "bad", "ann")) == 1  # a person may think again
    assert {(r["annotator"], r["label"]) for r in readable(ws, spec())} == {
        ("ann", "bad"), ("bob", "bad"),
    }  # fmt: skip


def test_numbers_of_a_tool_are_taken_as_texts(ws: Workspace) -> None:
    assert say(ws, spec(), ("nice", "good", "ann"), row_id=7, source=3) == 1

    (row,) = answers(ws, spec()).to_pylist()
    assert (row["row_id"], row["source"]) == ("7", "3")


def test_the_same_file_on_another_day_changes_nothing(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (("nice", "good", "ann"), ("nice", "bad", "bob"), ("hm", None, "ann"))
    say(ws, spec(), *said)
    tomorrow = stage.now() + timedelta(days=1)
    monkeypatch.setattr(stage, "now", lambda: tomorrow)

    assert say(ws, spec(), *said) == 0
    assert answers(ws, spec())["answered_at"].to_pylist()[-1] < tomorrow.isoformat()
    assert say(ws, spec(), ("nice", "bad", "ann")) == 1
    assert {r["label"] for r in readable(ws, spec())} == {"bad"}


def test_a_row_twice_in_a_file_is_one_answer_the_last(ws: Workspace) -> None:
    said = (("nice", "good", "ann"), ("Nice ", "bad", "ann"))

    assert (say(ws, spec(), *said), say(ws, spec(), *said)) == (1, 0)
    assert [r["label"] for r in readable(ws, spec())] == ["bad"]


def test_an_older_answer_does_not_take_the_place_of_a_newer_one(ws: Workspace) -> None:
    say(ws, spec(), ("nice", "bad", "ann"), answered_at="2026-01-02T11:00:00Z")

    assert say(ws, spec(), ("nice", "good", "ann"), answered_at="2026-01-02T10:00:00Z") == 0
    assert [r["label"] for r in readable(ws, spec())] == ["bad"]


def test_old_answers_are_read_in_the_classes_of_today(ws: Workspace) -> None:
    say(ws, spec(), ("nice", "good", "ann"), ("poor", "bad", "ann"), ("hm", None, "ann"))

    told = readable(ws, spec(taxonomy=SPLIT))

    assert sorted(r["classes"] for r in told) == [("bad",), ("fine", "great")]


def test_labels_of_development_are_read_through_the_mapping_alone(ws: Workspace) -> None:
    say(ws, spec(), ("a", "5 stars", "dev"), ("b", "1 star", "dev"), origin="development")

    assert readable(ws, spec()) == []
    mapped = spec(annotation={"development": {"5 stars": "good"}})
    assert [r["classes"] for r in readable(ws, mapped)] == [("good",)]


@pytest.mark.parametrize(
    ("declared", "asked_again"),
    [
        (spec(), set()),
        (spec(annotation=annotation("2", semantic=False)), set()),
        (spec(annotation=annotation("2", semantic=True)), {"nice", "poor"}),
        (spec(annotation=annotation("2", semantic=True, classes=("good",))), {"nice"}),
        (spec(taxonomy=SPLIT), set()),
    ],
)
def test_only_a_change_of_meaning_asks_again(
    ws: Workspace, declared: ProjectSpec, asked_again: set[str]
) -> None:
    say(ws, spec(), ("nice", "good", "ann"), ("poor", "bad", "ann"))

    seen = seen_by(ws, declared, "ann")

    assert {text for text in ("nice", "poor") if text_key(text) not in seen} == asked_again
    assert seen_by(ws, declared, "bob") == frozenset()


def test_a_class_of_before_needs_the_version_that_it_was_one_of(ws: Workspace) -> None:
    today = spec(taxonomy=SPLIT)
    answer = {"text": "x", "label": "good", "annotator": "ann"}

    with pytest.raises(FMError, match="fill in taxonomy_version 1"):
        save(ws, today, [answer], RunContext())

    assert save(ws, today, [{**answer, "taxonomy_version": "1"}], RunContext()) == 1


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"text": "x", "label": "ugly", "annotator": "ann"}, "is no class"),
        ({"text": "x", "label": "good"}, "needs the name"),
        ({"text": "x", "label": "good", "annotator": "../up"}, "needs the name"),
        ({"label": "good", "annotator": "ann"}, "names no row"),
        ({"text": "x", "label": "good", "annotator": "ann", "origin": "moon"}, "no origin"),
        ({"text": "x", "label": "good", "annotator": "ann", "answered_at": "soon"}, "the time"),
        ({"text": "x", "label": "good", "annotator": "ann", "taxonomy_version": "x"}, "no number"),
        ({"text": "x", "label": "good", "annotator": "ann", "taxonomy_version": [1]}, "no number"),
        ({"text": "x", "label": "good", "annotator": "a", "taxonomy_version": 1e400}, "no number"),
        ({"text": "x", "label": 3, "annotator": "ann"}, "is no class"),
        ({"text": "x", "label": {"a": 1}, "annotator": "ann"}, "label is no text"),
        ({"text": ["x"], "label": "good", "annotator": "ann"}, "text is no text"),
        ({"text": "\ud800", "label": "good", "annotator": "ann"}, "text is no text"),
        ({"text": "x", "label": "good", "annotator": "ann", "source": {}}, "source is no text"),
        ({"text_key": ["x"], "label": "good", "annotator": "ann"}, "text_key is no text"),
    ],
)
def test_a_wrong_answer_is_refused_and_nothing_is_kept(
    ws: Workspace, record: dict[str, Any], says: str
) -> None:
    right = {"text": "y", "label": "good", "annotator": "ann"}

    with pytest.raises(FMError, match=says):
        save(ws, spec(), [right, record], RunContext())

    assert answers(ws, spec()).num_rows == 0


SAID = st.tuples(
    st.sampled_from("pqr"), st.sampled_from(["bad", "good", None]), st.sampled_from("ab")
)


@settings(max_examples=8, deadline=None)
@given(st.lists(SAID, max_size=6))
def test_whoever_answered_a_row_has_seen_it(said: list[tuple[str, str | None, str]]) -> None:
    with TemporaryDirectory() as folder:
        ws = Workspace.open(Home(Path(folder)))
        for one in said:
            say(ws, spec(), one)

        for who in "ab":
            assert seen_by(ws, spec(), who) == {text_key(t) for t, _, w in said if w == who}
