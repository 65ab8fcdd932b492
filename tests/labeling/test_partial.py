"""Votes that are sets of classes: written down, read back, and looked at by who knows no sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.errors import FunctionFailureError, LabelingError
from fm_platform.labeling import labeling_function
from fm_platform.labeling.apply import apply_function
from fm_platform.labeling.declared import compile_declared
from fm_platform.labeling.partial import (
    NO_SETS,
    ClassSets,
    check,
    encode,
    from_table,
    renumber,
    to_table,
    unite,
)
from fm_platform.spec.models import KeywordFunction

CLASSES = ("billing", "bug", "crash", "praise")
ANSWERS = st.lists(
    st.one_of(st.integers(-1, 3), st.sets(st.integers(0, 3), min_size=0, max_size=4).map(tuple)),
    max_size=20,
)


def batch(texts: list[str]) -> pa.RecordBatch:
    return pa.record_batch({"row_id": [f"{i:032x}" for i in range(len(texts))], "text": texts})


@settings(max_examples=100, deadline=None)
@given(ANSWERS)
def test_what_was_answered_comes_back_from_the_table(answers: list[Any]) -> None:
    votes, sets = encode(answers, 4)
    ids = [str(i) for i in range(len(answers))]

    again, book = from_table(to_table(pa.array(ids, pa.string()), votes, sets))

    for vote, answer in zip(again.tolist(), answers, strict=True):
        given_classes = {answer} - {-1} if isinstance(answer, int) else set(answer)
        expected = set() if len(given_classes) == 4 else given_classes
        assert set(book.members(vote)) == expected


def test_a_column_without_sets_is_as_it_always_was() -> None:
    table = to_table(pa.array(["a", "b"]), np.array([1, -1], np.int8), ClassSets.of([(0, 1)]))

    assert table.schema == pa.schema([("row_id", pa.string()), ("vote", pa.int8())])


def test_the_members_stand_beside_the_vote() -> None:
    votes, sets = encode([0, (1, 2), -1], 4)

    table = to_table(pa.array(["a", "b", "c"]), votes, sets)

    assert table["vote"].to_pylist() == [0, -2, -1]
    assert table["classes"].to_pylist() == [None, [1, 2], None]


@settings(max_examples=100, deadline=None)
@given(st.lists(ANSWERS, min_size=1, max_size=4))
def test_columns_of_different_books_get_one(columns: list[list[Any]]) -> None:
    encoded = [encode(answers, 4) for answers in columns]

    votes, book = unite(encoded)

    for (own, sets), united in zip(encoded, votes, strict=True):
        before = [sets.members(vote) for vote in own.tolist()]
        assert [book.members(vote) for vote in united.tolist()] == before


def test_allowed_is_the_mask_that_a_loss_sums_over() -> None:
    votes, sets = encode([2, -1, (0, 1)], 3)

    assert sets.allowed(votes, 3).tolist() == [
        [False, False, True], [True, True, True], [True, True, False]
    ]  # fmt: skip
    assert sets.allowed(votes.reshape(1, 3), 3).shape == (1, 3, 3)


def test_a_set_that_no_book_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="between -1 and 2"):
        check(np.array([-2], np.int8), 3, NO_SETS)
    with pytest.raises(KeyError):
        renumber(np.array([-2], np.int8), ClassSets.of([(0, 1)]), ClassSets.of([(0, 2)]))
    with pytest.raises(LabelingError, match="too many different sets"):
        ClassSets.of([(i, j) for i in range(20) for j in range(i)])


def test_python_functions_answer_sets_of_names() -> None:
    @labeling_function()
    def broken(row: Any) -> Any:
        return {"bug", "crash"} if "broken" in row.text else None

    @labeling_function(batch=True)
    def listed(frame: Any) -> Any:
        return [["bug", "crash"], ["praise"], None]

    texts = ["broken", "great", "?"]
    for function, expected in ((broken, ["bug or crash", None, None]),
                               (listed, ["bug or crash", "praise", None])):  # fmt: skip
        column = apply_function(function, [batch(texts)], CLASSES)
        assert [column.sets.names(vote, CLASSES) for vote in column.votes.tolist()] == expected


def test_batches_with_different_sets_make_one_column() -> None:
    @labeling_function()
    def says(row: Any) -> Any:
        return row.text.split()

    column = apply_function(
        says, [batch(["crash bug"]), batch(["bug billing", "bug crash"])], CLASSES
    )

    assert column.votes.tolist() == [-3, -2, -3]
    assert column.sets.sets == ((0, 1), (1, 2))


def test_an_unknown_class_in_a_set_is_refused() -> None:
    @labeling_function()
    def wrong(row: Any) -> Any:
        return ("bug", "typo")

    with pytest.raises(FunctionFailureError, match="unknown class"):
        apply_function(wrong, [batch(["x"])], CLASSES)


def test_a_declared_function_may_name_several_classes() -> None:
    declared = KeywordFunction(
        kind="keyword", name="broken", words=("broken",), label=("bug", "crash")
    )

    column = apply_function(
        compile_declared(declared, Path()), [batch(["broken", "fine"])], CLASSES
    )

    assert [column.sets.members(vote) for vote in column.votes.tolist()] == [(1, 2), ()]
