"""Labeling functions: votes that moved, sources that differ, files that came and went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fm_platform.errors import MissingArtifactError
from fm_platform.home import Home
from fm_platform.lineage.records import ArtifactVersion, Produced
from fm_platform.stages.diff.functions import (
    file_changes,
    function_changes,
    source_of,
    unified,
)
from fm_platform.workspace import Workspace
from tests.lineage.factory import make_recipe, record

CLASSES = ["bad", "good"]
BOTH = ({"f"}, {"f"})


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


def votes(
    ws: Workspace,
    told: dict[str, int],
    function: str = "1",
    day: str = "2026-01-01",
    classes: list[str] | None = None,
) -> ArtifactVersion:
    table = pa.table(
        {"row_id": list(told), "vote": pa.array(list(told.values()), pa.int8())},
        schema=pa.schema([("row_id", pa.string()), ("vote", pa.int8())]),
    )
    content = ws.columns.put(table)
    recipe = make_recipe(
        kind="votes", name="f", partition=day,
        config={"function": function, "classes": classes or CLASSES, "content": content},
    )  # fmt: skip
    return record(ws.ledger, recipe, Produced(content, {"column": content}))


def describe(hash_: str) -> Any:
    return {"1": {"source": "one\nsame\n"}, "2": {"source": "two\nsame\n"}}.get(hash_)


def test_moved_votes_are_counted_on_the_rows_of_both(ws: Workspace) -> None:
    before = votes(ws, {"a": 0, "b": 1, "c": -1, "gone": 0})
    after = votes(ws, {"new": 1, "c": -1, "b": 0, "a": 0}, "2")

    (change,) = function_changes(ws, [(before, after)], BOTH, describe)

    assert (change.status, change.days, change.rows, change.votes_changed) == ("changed", 1, 3, 1)
    assert [line for line in change.source if line[0] in "+-"][2:] == ["-one", "+two"]


def test_votes_are_compared_by_class_name_where_the_taxonomy_changed(ws: Workspace) -> None:
    before = votes(ws, {"a": 0, "b": 1, "c": -1, "d": 1})
    after = votes(ws, {"a": 1, "b": 0, "c": -1, "d": 2}, classes=["good", "bad", "great"])

    (change,) = function_changes(ws, [(before, after)], BOTH, describe)

    assert (change.status, change.rows, change.votes_changed) == ("same", 4, 1)


def test_a_function_that_only_voted_on_more_days_is_no_change(ws: Workspace) -> None:
    new_day = votes(ws, {"a": 0}, day="2026-01-02")

    assert function_changes(ws, [(None, new_day)], BOTH, describe) == ()
    assert function_changes(ws, [(new_day, None)], BOTH, describe) == ()


@pytest.mark.parametrize(
    ("known", "sides", "status"),
    [((set(), {"f"}), (None, 0), "new"), (({"f"}, set()), (0, None), "gone")],
)
def test_functions_come_and_go_with_their_source(
    ws: Workspace, known: Any, sides: Any, status: str
) -> None:
    version = votes(ws, {"a": 0})
    pair = tuple(None if side is None else version for side in sides)

    (change,) = function_changes(ws, [pair], known, describe)  # type: ignore[list-item]

    assert change.status == status
    sign = "+" if status == "new" else "-"
    assert change.source[-2:] == (f"{sign}one", f"{sign}same")


def test_a_source_that_was_not_recorded_is_said_to_be_missing(ws: Workspace) -> None:
    pair = (votes(ws, {"a": 0}, "1"), votes(ws, {"a": 1}, "unknown"))

    (change,) = function_changes(ws, [pair], BOTH, describe)

    assert (change.recorded, change.source) == (False, ())


def test_a_column_that_is_gone_is_an_error(ws: Workspace) -> None:
    pair = (votes(ws, {"a": 0}), votes(ws, {"a": 1}, "2"))
    for file in (ws.home.cache / "columns").rglob("*.arrow"):
        file.unlink()

    with pytest.raises(MissingArtifactError):
        function_changes(ws, [pair], BOTH, describe)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("text", "text"),
        ({"source": "text"}, "text"),
        ({"source": 1}, None),
        (None, None),
        ([], None),
    ],
)
def test_the_source_of_a_document(document: Any, expected: str | None) -> None:
    assert source_of(document) == expected


def test_files_are_compared_by_name() -> None:
    found = file_changes({"a": "1\n", "b": "1\n", "c": "1\n"}, {"b": "2\n", "c": "1\n", "d": "1\n"})

    assert [(f.name, f.status) for f in found] == [("a", "gone"), ("b", "changed"), ("d", "new")]
    assert found[1].source[-2:] == ("-1", "+2")
    assert unified("x", "same", "same") == ()
