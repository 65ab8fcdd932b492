from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from fm_platform.errors import FencedError, MissingArtifactError, SchemaMismatchError
from fm_platform.store.tables import Commit, TableRef, TableStore

SCHEMA = pa.schema([("day", pa.string()), ("x", pa.int64())])
WIDER = pa.schema([("day", pa.string()), ("x", pa.int64()), ("y", pa.string())])


def write(
    store: TableStore, day: str, rows: list[int], number: int, table: str = "p/raw"
) -> TableRef:
    batch = pa.record_batch({"day": [day] * len(rows), "x": rows}, schema=SCHEMA)
    commit = Commit(f"{table}|{day}", number, {})
    return store.write_partition(table, SCHEMA, [batch], column="day", value=day, commit=commit)


def seen(store: TableStore, table: str = "p/raw") -> list[tuple[str, int]]:
    rows = DeltaTable(store.storage.path(table)).to_pyarrow_table().to_pylist()
    return sorted((row["day"], row["x"]) for row in rows)


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(str(tmp_path / "lake"))


def test_many_partitions_change_in_one_commit_and_others_stay(store: TableStore) -> None:
    old = {day: write(store, day, [1, 2], 1) for day in ("a", "b")}
    for day in ("a", "b", "c", "d"):
        write(store, day, [9], 2)
    done = store.repoint("p/raw", old, ["c"], why="test")
    assert (done.changed, done.emptied) == (("a", "b"), ("c",))
    assert done.version == DeltaTable(store.storage.path("p/raw")).version() == 7
    assert seen(store) == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("d", 9)]
    assert done.refs["a"].version == 7
    assert store.read_table(done.refs["a"])["x"].to_pylist() == [1, 2]


def test_what_is_so_already_makes_no_commit(store: TableStore) -> None:
    ref = write(store, "a", [1], 1)
    assert store.repoint("p/raw", {"a": ref}, ["z"], why="test").version is None
    assert DeltaTable(store.storage.path("p/raw")).version() == 1
    assert store.repoint("p/none", {}, ["z"], why="test").version is None


def test_files_of_another_table_are_linked_and_neither_needs_the_other(store: TableStore) -> None:
    ref = write(store, "a", [1, 2, 3], 1)
    done = store.repoint("p@b/raw", {"a": ref}, why="branch")
    (mine,), (theirs,) = done.refs["a"].files, ref.files
    path = store.storage.local(f"p@b/raw/{mine.path}")
    assert path.stat().st_ino == store.storage.local(f"p/raw/{theirs.path}").stat().st_ino
    store.storage.local(f"p/raw/{theirs.path}").unlink()
    assert store.read_table(done.refs["a"])["x"].to_pylist() == [1, 2, 3]
    assert seen(store, "p@b/raw") == [("a", 1), ("a", 2), ("a", 3)]


def test_a_table_goes_on_after_it(store: TableStore) -> None:
    old = write(store, "a", [1], 1)
    write(store, "a", [2], 2)
    store.repoint("p/raw", {"a": old}, why="test")
    write(store, "a", [3], 3)
    assert seen(store) == [("a", 3)]
    batch = pa.record_batch({"day": ["a"], "x": [4], "y": ["new"]}, schema=WIDER)
    store.write_partition(
        "p/raw", WIDER, [batch], column="day", value="a", commit=Commit("p/raw|a", 4, {})
    )
    store.repoint("p/raw", {"a": old}, why="an older file lacks a column")
    assert seen(store) == [("a", 1)]


def test_refusals_leave_the_table_as_it_was(store: TableStore) -> None:
    old = write(store, "a", [1], 1)
    write(store, "a", [2], 2)

    def fence() -> None:
        raise FencedError("too late")

    with pytest.raises(FencedError):
        store.repoint("p/raw", {"a": old}, why="test", fence=fence)
    other = TableRef("p/raw", "part", "b", 1, "", 0, old.files)
    with pytest.raises(SchemaMismatchError):
        store.repoint("p/raw", {"a": old, "b": other}, why="test")
    store.storage.local(f"p/raw/{old.files[0].path}").unlink()
    with pytest.raises(MissingArtifactError):
        store.repoint("p@b/raw", {"a": old}, why="test")
    assert seen(store) == [("a", 2)]


def test_an_empty_partition_comes_back_empty(store: TableStore) -> None:
    empty = write(store, "a", [], 1)
    write(store, "a", [1], 2)
    store.repoint("p/raw", {"a": empty}, why="test")
    assert seen(store) == []
