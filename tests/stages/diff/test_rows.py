"""Rows added, removed, relabeled: against tables of known differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fm_platform.home import Home
from fm_platform.lineage.records import ArtifactVersion, Produced
from fm_platform.stages import tables
from fm_platform.stages.diff.records import Relabeled, RowCounts
from fm_platform.stages.diff.rows import rows_change, vectors_change
from fm_platform.store.refs import Commit
from fm_platform.workspace import Workspace
from tests.lineage.factory import make_recipe, record

DAY = "2026-01-01"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


def row(i: int, label: str | None = "good", source: str = "mail", **more: Any) -> dict[str, Any]:
    fields = {
        "row_id": f"{i:032x}", "day": DAY, "source": source, "split": "train", "text": f"row {i}",
        "label": label, "probabilities": [0.75, 0.25], "confidence": 0.75,
    }  # fmt: skip
    return fields | more


def cleaned(
    ws: Workspace, rows: list[dict[str, Any]], day: str = DAY, number: int = 1
) -> ArtifactVersion:
    data = pa.Table.from_pylist([r | {"day": day} for r in rows], tables.CLEANED)
    ref = ws.tables.write_partition(
        "shop/cleaned", data.schema, data.to_batches(), column="day", value=day,
        commit=Commit(f"shop|cleaned|{day}", number, {}),
    )  # fmt: skip
    recipe = make_recipe(kind="cleaned", name="cleaned", partition=day, config={"n": number})
    location = tables.location({"cleaned": ref})
    return record(ws.ledger, recipe, Produced(ref.content_hash, location, rows=len(rows)))


def test_equal_tables_have_no_change(ws: Workspace) -> None:
    one, two = cleaned(ws, [row(1)]), cleaned(ws, [row(1)], number=2)

    assert rows_change(ws, "cleaned", [(one, two)]) is None


def test_every_kind_of_change_is_counted_once(ws: Workspace) -> None:
    before = cleaned(ws, [row(1), row(2), row(3, "bad"), row(4), row(5), row(6, source="chat")])
    after = cleaned(
        ws,
        [
            row(1), row(2, "bad"), row(3, None), row(4, text="edited"),
            row(5, probabilities=[0.5, 0.5]), row(7, source="chat"), row(8, source="chat"),
        ],
        number=2,
    )  # fmt: skip

    told = rows_change(ws, "cleaned", [(before, after)])

    assert told is not None
    assert (told.before_rows, told.after_rows, told.partitions) == (6, 7, (DAY,))
    assert (told.added, told.removed, told.moved) == (2, 1, 0)
    assert (told.relabeled, told.edited, told.reweighted) == (2, 1, 1)
    assert told.mean_shift == pytest.approx(0.25)
    assert told.labels == (Relabeled("bad", None, 1), Relabeled("good", "bad", 1))
    assert told.by_source == (RowCounts("chat", 2, 1, 0), RowCounts("mail", 0, 0, 2))
    assert {(e.row_id[-1], e.change, e.before, e.after) for e in told.examples} == {
        ("2", "relabeled", "good", "bad"), ("3", "relabeled", "bad", None),
        ("6", "removed", "good", None), ("7", "added", None, "good"), ("8", "added", None, "good"),
    }  # fmt: skip


def test_a_row_that_went_to_another_day_moved(ws: Workspace) -> None:
    other = "2026-01-02"
    before = [cleaned(ws, [row(1), row(2)]), cleaned(ws, [row(3)], other)]
    after = [
        cleaned(ws, [row(1)], number=2),
        cleaned(ws, [row(2, "bad"), row(3)], other, number=2),
    ]

    told = rows_change(ws, "cleaned", zip(before, after, strict=True))

    assert told is not None
    assert (told.added, told.removed, told.moved, told.relabeled) == (0, 0, 1, 1)
    assert told.labels == (Relabeled("good", "bad", 1),)


def test_whole_days_come_and_go(ws: Workspace) -> None:
    day = cleaned(ws, [row(1), row(2)])

    came = rows_change(ws, "cleaned", [(None, day)])
    went = rows_change(ws, "cleaned", [(day, None)])

    assert came is not None
    assert went is not None
    assert (came.added, came.removed, came.before_rows) == (2, 0, 0)
    assert (went.added, went.removed, went.after_rows) == (0, 2, 0)


def test_only_the_sources_asked_for_are_compared(ws: Workspace) -> None:
    before = cleaned(ws, [row(1), row(2, source="chat")])
    after = cleaned(ws, [row(1, "bad"), row(2, "bad", source="chat")], number=2)

    told = rows_change(ws, "cleaned", [(before, after)], sources=(["chat"], ["chat"]))

    assert told is not None
    assert (told.relabeled, told.before_rows) == (1, 1)


def test_a_row_id_twice_is_paired_by_its_order(ws: Workspace) -> None:
    before = cleaned(ws, [row(1), row(1, "bad")])
    after = cleaned(ws, [row(1), row(1, "bad"), row(1)], number=2)

    told = rows_change(ws, "cleaned", [(before, after)])

    assert told is not None
    assert (told.added, told.removed, told.relabeled) == (1, 0, 0)


def test_probabilities_of_another_taxonomy_count_as_wholly_shifted(ws: Workspace) -> None:
    before = cleaned(ws, [row(1)])
    after = cleaned(ws, [row(1, probabilities=[0.5, 0.25, 0.25])], number=2)

    told = rows_change(ws, "cleaned", [(before, after)])

    assert told is not None
    assert (told.reweighted, told.mean_shift) == (1, 1.0)


def test_examples_can_be_left_out_and_carry_no_text_when_not_wanted(ws: Workspace) -> None:
    before, after = cleaned(ws, [row(1)]), cleaned(ws, [row(1, "bad")], number=2)

    none = rows_change(ws, "cleaned", [(before, after)], examples=0)
    blind = rows_change(ws, "cleaned", [(before, after)], text=False)

    assert none is not None
    assert blind is not None
    assert none.examples == ()
    assert [e.text for e in blind.examples] == [None]


LABELS = st.dictionaries(st.integers(0, 12), st.sampled_from(["good", "bad"]), max_size=10)


@given(LABELS, LABELS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_counts_add_up(ws: Workspace, one: dict[int, str], two: dict[int, str]) -> None:
    number = len(ws.ledger.versions("shop"))
    before = cleaned(ws, [row(i, label) for i, label in one.items()], number=number + 1)
    after = cleaned(ws, [row(i, label) for i, label in two.items()], number=number + 2)

    told = rows_change(ws, "cleaned", [(before, after)])
    back = rows_change(ws, "cleaned", [(after, before)])

    if one == two:
        assert told is None
        assert back is None
        return
    assert told is not None
    assert back is not None
    assert told.added == len(two.keys() - one.keys()) == back.removed
    assert told.removed == len(one.keys() - two.keys()) == back.added
    assert told.relabeled == sum(one[k] != two[k] for k in one.keys() & two.keys())
    assert told.before_rows - told.removed + told.added == told.after_rows


def test_embeddings_differ_by_cosine(ws: Workspace) -> None:
    def vectors(values: list[list[float]], number: int) -> ArtifactVersion:
        table = pa.table(
            {
                "row_id": [str(i) for i in range(len(values))],
                "embedding": pa.array(values, pa.list_(pa.float32(), 2)),
            }
        )
        recipe = make_recipe(kind="embeddings", name="embeddings", config={"n": number})
        content = ws.columns.put(table)
        return record(ws.ledger, recipe, Produced(content, {"column": content}))

    before = vectors([[1, 0], [0, 1], [1, 1]], 1)
    after = vectors([[1, 0], [1, 0]], 2)

    told = vectors_change(ws, [(before, after)])

    assert told is not None
    assert (told.removed, told.reweighted, told.mean_shift) == (1, 1, pytest.approx(1.0))
    assert vectors_change(ws, []) is None
