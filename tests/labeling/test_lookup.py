"""Votes from a table of known things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fm_platform.errors import LabelingError
from fm_platform.labeling import ABSTAIN
from fm_platform.labeling.apply import apply_function
from fm_platform.labeling.declared import compile_declared
from fm_platform.spec.models import LookupFunction

CLASSES = ("city", "person", "river")
TABLE = """name,type
Paris,town
New York,town
York,town
Seine,river
Jordan,river
Jordan,person
Ada Lovelace,person
Mars,planet
"""


def lookup(folder: Path, text: str = TABLE, **more: Any) -> LookupFunction:
    (folder / "things.csv").write_text(text)
    return LookupFunction(
        kind="lookup", name="known", table="things.csv", key_column="name", label_column="type",
        values={"town": "city"}, **more,
    )  # fmt: skip


def column(declared: LookupFunction, folder: Path, texts: list[str | None]) -> Any:
    rows = pa.record_batch({"row_id": [str(i) for i in range(len(texts))], "text": texts})
    return apply_function(compile_declared(declared, folder), [rows], CLASSES)


def test_a_row_is_what_the_things_that_it_names_are(tmp_path: Path) -> None:
    texts = ["in PARIS, by day", "the Parisian way", "new  york!", "on Mars", "Ada Lovelace", None]

    assert column(lookup(tmp_path), tmp_path, texts).votes.tolist() == [0, -1, 0, -1, 1, -1]


def test_of_several_things_the_most_frequent_class_counts_and_equals_are_a_set(
    tmp_path: Path,
) -> None:
    told = column(lookup(tmp_path), tmp_path, ["Paris, York, Seine", "Paris, Seine", "Jordan"])

    assert [told.sets.members(vote) for vote in told.votes.tolist()] == [(0,), (0, 2), (1, 2)]


def test_a_column_can_be_the_key_itself(tmp_path: Path) -> None:
    told = column(lookup(tmp_path, match="exact"), tmp_path, ["Paris", "paris", "in Paris"])

    assert told.votes.tolist() == [0, ABSTAIN, ABSTAIN]


def test_a_changed_table_changes_the_fingerprint(tmp_path: Path) -> None:
    one = compile_declared(lookup(tmp_path), tmp_path).fingerprint

    assert compile_declared(lookup(tmp_path, TABLE + "Rom,town\n"), tmp_path).fingerprint != one


@pytest.mark.parametrize(
    ("text", "problem"),
    [("name,kind\nParis,town\n", r"lacks a column"), ("name,type\nMars,planet\n", r"of a class")],
)
def test_a_table_that_says_nothing_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        column(lookup(tmp_path, text), tmp_path, ["Paris"])


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    declared = lookup(tmp_path)
    (tmp_path / "things.csv").unlink()

    with pytest.raises(LabelingError, match=r"(?s)things.csv.*no such file"):
        compile_declared(declared, tmp_path)
