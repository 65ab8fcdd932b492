"""Agreement beside the numbers that its author published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.labeling.agreement import agreed, agreement, krippendorff_alpha

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": sections A and C
BINARY = ("0100000010", "1110010000")
NOMINAL = ("123321412...", "123322412 5.3".replace(" ", ""), ".33323422 51.".replace(" ", ""),
           "12332441251.")  # fmt: skip


def units(people: tuple[str, ...]) -> list[str]:
    return ["".join(said).replace(".", "") for said in zip(*people, strict=True)]


@pytest.mark.parametrize(("people", "published"), [(BINARY, 0.095), (NOMINAL, 0.743)])
def test_alpha_is_the_published_one(people: tuple[str, ...], published: float) -> None:
    assert krippendorff_alpha(units(people)) == pytest.approx(published, abs=5e-4)


@given(st.lists(st.text("ab", max_size=4), max_size=8))
def test_alpha_is_one_without_conflict_and_never_more(rows: list[str]) -> None:
    found = krippendorff_alpha(rows)
    if found is not None:
        assert found <= 1
        without_conflict = all(len(set(row)) == 1 for row in rows if len(row) > 1)
        assert (abs(found - 1) < 1e-12) == without_conflict


def test_who_answers_alone_does_not_count() -> None:
    told = agreement([("r1", "ann", "x"), ("r1", "bob", "y"), ("r2", "cat", "x")])

    assert (told.rows, told.annotators, told.observed) == (1, 2, 0.0)
    assert agreement([("r1", "ann", "x")]).alpha is None


def test_a_class_counts_with_enough_people_and_more_than_half() -> None:
    assert agreed({"a": "x"}, 2) is None
    assert agreed({"a": "x", "b": "x"}, 2) == "x"
    assert agreed({"a": "x", "b": "x", "c": "y", "d": "z"}, 2) is None
