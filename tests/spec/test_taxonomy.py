"""Classes that change: every label of any time is read in the classes of today."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fm_platform.spec.taxonomy import Taxonomy

CHANGES = [
    {"version": 2, "rename": {"bad": "negative"}, "add": ["spam"]},
    {"version": 3, "split": {"good": ["fine", "great"]}, "remove": ["spam"]},
    {"version": 4, "merge": {"neutral": ["neutral", "unclear"]}, "add": {"irony": ["negative"]}},
]
CLASSES = ["negative", "neutral", "fine", "great", "irony"]


def taxonomy(**changed: object) -> Taxonomy:
    return Taxonomy.model_validate({"version": 4, "classes": CLASSES, "changes": CHANGES} | changed)


def test_the_classes_of_every_version_follow_from_those_of_today() -> None:
    told = taxonomy()

    assert told.classes_of(1) == {"bad", "neutral", "good", "unclear"}
    assert told.classes_of(2) == {"negative", "neutral", "good", "unclear", "spam"}
    assert told.classes_of(3) == {"negative", "neutral", "fine", "great", "unclear"}
    assert told.classes_of(9) == frozenset()


@pytest.mark.parametrize(
    ("label", "version", "means"),
    [
        ("good", None, ("fine", "great")),  # split
        ("unclear", None, ("neutral",)),  # merged
        ("spam", None, ()),  # removed
        ("bad", None, ("negative", "irony")),  # renamed; irony went under it before version 4
        ("negative", 3, ("negative", "irony")),
        ("negative", None, ("negative",)),  # of today, where nobody says otherwise
        ("great", 1, None),  # was no class then
        ("ugly", None, None),
    ],
)
def test_a_label_of_before_is_one_class_or_several_or_none(
    label: str, version: int | None, means: tuple[str, ...] | None
) -> None:
    assert taxonomy().meaning(label, version) == means


def test_sets_that_labels_may_stand_for() -> None:
    assert taxonomy().sets == ((0, 4), (2, 3))
    assert Taxonomy(classes=("a", "b")).sets == ()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"version": 5}, "leads to version 4, the taxonomy says 5"),
        ({"classes": [*CLASSES, "spam"]}, "'spam' was a class before|no class any more"),
        ({"classes": CLASSES[:3]}, "should be a class in version"),
        ({"changes": CHANGES[1:][::-1]}, "oldest first|leads to version"),
        ({"changes": [{"version": 4, "split": {"x": ["fine", "x"]}}]}, "could not be told apart"),
        ({"changes": [{"version": 4, "split": {"x": ["fine"]}}]}, "two or more"),
        ({"changes": [{"version": 4}]}, "name at least one of"),
        ({"changes": [{"version": 4, "add": {"irony": ["never"]}}]}, "was no class before"),
        (
            {"changes": [{"version": 4, "rename": {"x": "fine"}, "remove": ["x"]}]},
            "more than one operation",
        ),
        (
            {"changes": [{"version": 3, "rename": {"fine": "x"}},
                         {"version": 4, "rename": {"x": "fine"}}]},
            "a name that is gone stays gone",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changed: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        taxonomy(**changed)


@given(st.permutations(["a", "b", "c", "d"]), st.integers(1, 3))
def test_split_then_merge_of_the_same_is_as_it_was(names: list[str], at: int) -> None:
    told = Taxonomy.model_validate(
        {
            "version": 3,
            "classes": [*names[:at], "whole"],
            "changes": [
                {"version": 2, "split": {"old": ["left", "right"]}},
                {"version": 3, "merge": {"whole": ["left", "right"]}},
            ],
        }
    )

    assert told.meaning("old") == told.meaning("left") == ("whole",)
    assert told.sets == ()
