"""Files of answers: what is written is read back, and what is no such file is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.errors import SourceFormatError
from fm_platform.labeling.annotations import FORMATS, Format, answered, parse, render

CLASSES = ("bad", "good")
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=30)
ANSWER = st.tuples(st.integers(0, 3), TEXT, st.sampled_from(CLASSES), st.sampled_from("ab"))


def row(number: int, text: str, label: str | None, who: str | None) -> dict[str, object]:
    return {
        "text_key": f"key{number}", "row_id": f"row{number}", "source": "mail", "text": text,
        "label": label, "annotator": who, "guideline_version": "2", "interface_version": "1",
        "taxonomy_version": 1, "origin": "production",
        "answered_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
@given(given_answers=st.lists(ANSWER, max_size=6, unique_by=lambda a: (a[0], a[3])))
def test_answers_come_back(form: Format, given_answers: list[tuple[int, str, str, str]]) -> None:
    texts = {number: text for number, text, _, _ in given_answers}
    rows = [row(number, texts[number], label, who) for number, _, label, who in given_answers]

    found = parse(render(rows, form, CLASSES).encode(), form, "file")

    def known(of: dict[str, object]) -> tuple[str, ...]:
        names = ("text_key", "text", "label", "annotator", "guideline_version", "taxonomy_version")
        return tuple(str(of[name]) for name in names)

    assert sorted(map(known, found)) == sorted(map(known, rows))


@pytest.mark.parametrize("form", FORMATS)
def test_questions_are_no_answers(form: Format) -> None:
    text = render([row(1, "who knows", None, None)], form, CLASSES)

    assert "who knows" in text
    assert [r for r in parse(text.encode(), form, "file") if r.get("annotator")] == []


@pytest.mark.parametrize(
    ("form", "text", "says"),
    [
        ("csv", "a,b\n1,2\n", "columns text"),
        ("argilla", "{", "no argilla export"),
        ("argilla", "[1]", "record 1"),
        ("labelstudio", '[{"data": {}}]', "record 1"),
        ("labelstudio", "5", "no list of records"),
        ("argilla", '{"records": 5}', "no list of records"),
        ("csv", b"text,label\n\xff,good\n", "no csv export"),
    ],
)
def test_what_is_no_such_file_is_refused(form: Format, text: str | bytes, says: str) -> None:
    with pytest.raises(SourceFormatError, match=says):
        parse(text if isinstance(text, bytes) else text.encode(), form, "file")


def test_label_studio_answers_of_a_person_with_a_mail_address() -> None:
    task = {
        "id": 3,
        "data": {"text": "fine"},
        "annotations": [
            {"completed_by": {"email": "a@b.org"}, "created_at": "2026-01-02T03:04:05Z",
             "result": [{"type": "choices", "value": {"choices": ["good"]}}]},
            {"completed_by": 7, "result": []},
        ],
    }  # fmt: skip

    first, second = parse(json.dumps([task]).encode(), "labelstudio", "file")

    assert (first["label"], first["annotator"]) == ("good", "a@b.org")
    assert (second["label"], second["annotator"]) == (None, "7")


def test_lines_of_a_csv_that_nobody_filled_in_are_no_answers() -> None:
    text = render([row(n, f"text {n}", None, None) for n in (1, 2)], "csv", CLASSES)
    half = text.replace("mail,text 1,", "mail,text 1,good")
    cannot_say = render([row(3, "hm", None, "ann")], "csv", CLASSES)

    first, second = parse(half.encode(), "csv", "file")
    (third,) = parse(cannot_say.encode(), "csv", "file")

    assert [answered(record) for record in (first, second, third)] == [True, False, True]


@pytest.mark.parametrize("form", FORMATS)
def test_answers_to_one_row_keep_the_version_of_each(form: Format) -> None:
    later = row(1, "nice", "bad", "ann") | {"guideline_version": "3", "taxonomy_version": 2}
    rows = [row(1, "nice", "good", "ann"), later, row(1, "nice", "good", "bob")]

    found = parse(render(rows, form, CLASSES).encode(), form, "file")

    names = ("annotator", "label", "guideline_version", "taxonomy_version")
    assert sorted(tuple(str(r[name]) for name in names) for r in found) == [
        ("ann", "bad", "3", "2"), ("ann", "good", "2", "1"), ("bob", "good", "2", "1"),
    ]  # fmt: skip


def test_each_record_for_argilla_has_an_id_of_its_own() -> None:
    rows = [row(1, "nice", "good", "ann") | {"guideline_version": v} for v in ("1", "2")]

    ids = [record["id"] for record in json.loads(render(rows, "argilla", CLASSES))]

    assert ids == ["row1", "row1-2"]


@pytest.mark.parametrize("who", [{}, {"completed_by": None}, {"completed_by": {"id": None}}])
def test_a_tool_that_does_not_name_the_person_leaves_the_name_open(who: dict[str, object]) -> None:
    result = [{"type": "choices", "value": {"choices": ["good"]}}]
    task = {"data": {"text": "fine"}, "annotations": [{**who, "result": result}]}
    record = {
        "fields": {"text": "fine"},
        "responses": {"label": [{"value": "good", "user_id": None}]},
    }

    (of_studio,) = parse(json.dumps([task]).encode(), "labelstudio", "file")
    (of_argilla,) = parse(json.dumps([record]).encode(), "argilla", "file")

    assert "annotator" not in of_studio.keys() | of_argilla.keys()


def test_a_task_that_was_skipped_in_label_studio_has_no_label() -> None:
    result = [{"type": "choices", "value": {"choices": ["good"]}}]
    given = [{"completed_by": 7, "was_cancelled": True, "result": result}]

    (found,) = parse(
        json.dumps([{"data": {"text": "fine"}, "annotations": given}]).encode(),
        "labelstudio", "file",
    )  # fmt: skip

    assert found["label"] is None


def test_what_else_label_studio_writes_beside_choices_is_left_alone() -> None:
    beside = [{"type": "relation", "from_id": "a"}, {"type": "rating", "value": {"rating": 3}}]
    result = [*beside, {"type": "choices", "value": {"choices": ["good"]}}]
    task = {"data": {"text": "fine"}, "annotations": [{"completed_by": 7, "result": result}]}

    (found,) = parse(json.dumps([task]).encode(), "labelstudio", "file")

    assert found["label"] == "good"
