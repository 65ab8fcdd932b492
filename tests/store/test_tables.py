from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import CommitProperties
from hypothesis import HealthCheck, given, settings

from fm_platform.errors import (
    CorruptArtifactError,
    FencedError,
    MissingArtifactError,
    SchemaMismatchError,
    StorageFullError,
)
from fm_platform.store import delta, files, parquet
from fm_platform.store.content import content_hash
from fm_platform.store.tables import Commit, TableRef, TableStore
from tests.store.rows import SCHEMA, make_rows, write
from tests.store.test_content import ROWS, batch_of
from tests.store.test_content import SCHEMA as WIDE


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(str(tmp_path / "lake"))


def versions(store: TableStore, table: str = "t") -> int:
    return DeltaTable(store.storage.uri(table)).version()


def active_files(store: TableStore, table: str = "t") -> set[str]:
    uris = DeltaTable(store.storage.uri(table)).file_uris()
    return {uri.rpartition(f"/{table}/")[2] for uri in uris}


def test_what_is_written_is_read(store: TableStore) -> None:
    rows = make_rows("d1", 1, 30)

    ref = write(store, "d1", 1, seed=1, count=30)

    assert store.read_table(ref) == pa.Table.from_batches([rows])
    assert ref.content_hash == content_hash([rows], SCHEMA)
    assert ref.rows == 30
    assert TableRef.from_json(ref.to_json()) == ref
    assert store.read_table(ref, ["votes", "day"]).column_names == ["votes", "day"]


@given(ROWS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_rows_survive(tmp_path_factory: pytest.TempPathFactory, rows: list[object]) -> None:
    store = TableStore(str(tmp_path_factory.mktemp("lake")))
    inner = batch_of(rows)  # type: ignore[arg-type]
    schema = WIDE.append(pa.field("part", pa.string()))
    batch = pa.RecordBatch.from_arrays(
        [*inner.columns, pa.array(["p"] * len(rows), pa.string())], schema=schema
    )

    ref = store.write_partition(
        "t", schema, [batch], column="part", value="p", commit=Commit("a", 1, {})
    )

    assert content_hash(store.read(ref), schema) == ref.content_hash
    assert ref.content_hash == content_hash([batch], schema)


def test_another_partition_keeps_its_files(store: TableStore) -> None:
    first = write(store, "d1", 1, seed=1)
    second = write(store, "d2", 1, seed=2)
    before = active_files(store)

    third = write(store, "d1", 2, seed=3)

    assert active_files(store) - {third.files[0].path} == before - {first.files[0].path}
    assert store.read_table(second).num_rows == 20


def test_overwrite_without_predicate_loses_data_and_this_store_does_not(
    store: TableStore, tmp_path: Path
) -> None:
    """The case of dagster-deltalake (dagster#34064): one partition written, the others gone."""
    plain = str(tmp_path / "plain")
    for day in ("d1", "d2"):
        table = pa.Table.from_batches([make_rows(day, 1, 5)])
        write_deltalake(plain, table, mode="overwrite", partition_by=["day"])
        write(store, day, 1, seed=1, count=5)

    def days(uri: str) -> list[str]:
        return sorted(DeltaTable(uri).to_pyarrow_table()["day"].unique().to_pylist())

    assert days(plain) == ["d2"]
    assert days(store.storage.uri("t")) == ["d1", "d2"]


def test_no_rows_empty_the_partition(store: TableStore) -> None:
    write(store, "d1", 1, count=9)
    other = write(store, "d2", 1, count=9)

    ref = write(store, "d1", 2, count=0)

    assert ref.rows == 0
    assert store.read_table(ref).schema.names == SCHEMA.names
    assert DeltaTable(store.storage.uri("t")).to_pyarrow_table().num_rows == 9
    assert store.refs("t")[-1] == ref
    assert store.read_table(other).num_rows == 9


def test_no_batches_at_all_is_an_empty_partition(store: TableStore) -> None:
    ref = store.write_partition(
        "t", SCHEMA, iter(()), column="day", value="d1", commit=Commit("a", 1, {})
    )

    assert store.read_table(ref).schema.equals(SCHEMA)


def test_the_same_number_again_gives_the_first_result(store: TableStore) -> None:
    def never() -> Iterator[pa.RecordBatch]:
        raise AssertionError("read although committed")
        yield

    first = write(store, "d1", 7)
    again = store.write_partition(
        "t", SCHEMA, never(), column="day", value="d1", commit=Commit("t|d1", 7, {})
    )

    assert again == first
    assert versions(store) == first.version


def test_a_lower_number_is_fenced(store: TableStore) -> None:
    write(store, "d1", 7)

    with pytest.raises(FencedError, match="newer run"):
        write(store, "d1", 6)

    assert versions(store) == 1


def test_a_zombie_that_was_overtaken_while_writing_is_fenced(
    store: TableStore, tmp_path: Path
) -> None:
    def slow() -> Iterator[pa.RecordBatch]:
        yield make_rows("d1", 1, 5)
        write(store, "d1", 2, seed=2, count=6)  # the retry overtakes

    with pytest.raises(FencedError):
        store.write_partition(
            "t", SCHEMA, slow(), column="day", value="d1", commit=Commit("t|d1", 1, {})
        )

    assert [ref.rows for ref in store.refs("t")] == [6]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_a_twin_that_was_overtaken_gets_the_other_result(store: TableStore, tmp_path: Path) -> None:
    def slow() -> Iterator[pa.RecordBatch]:
        yield make_rows("d1", 1, 5)
        write(store, "d1", 1, seed=1, count=5)

    ref = store.write_partition(
        "t", SCHEMA, slow(), column="day", value="d1", commit=Commit("t|d1", 1, {})
    )

    assert store.refs("t") == [ref]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_the_fence_stops_the_commit_and_leaves_no_file(store: TableStore, tmp_path: Path) -> None:
    def fence() -> None:
        raise FencedError("the lease is gone")

    with pytest.raises(FencedError, match="lease"):
        store.write_partition(
            "t", SCHEMA, [make_rows("d1", 1, 5)], column="day", value="d1",
            commit=Commit("a", 1, {}), fence=fence,
        )  # fmt: skip

    assert store.refs("t") == []
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_source_that_fails_leaves_no_file(store: TableStore, tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield make_rows("d1", 1, 5)
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="source broke"):
        store.write_partition(
            "t", SCHEMA, broken(), column="day", value="d1", commit=Commit("a", 1, {})
        )

    assert list(tmp_path.rglob("*.parquet")) == []


def test_everything_is_synced_in_order(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data files and their folder, the fence, the commit, then its entry and the log folder."""
    write(store, "d1", 1)
    events: list[str] = []
    real_fsync, real_commit = os.fsync, DeltaTable.create_write_transaction

    def fsync(handle: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real_fsync(handle)

    def commit(self: DeltaTable, *args: object, **kwargs: object) -> None:
        events.append("commit")
        real_commit(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)
    ref = store.write_partition(
        "t", SCHEMA, [make_rows("d2", 1, 5)], column="day", value="d2",
        commit=Commit("a", 1, {}), fence=lambda: events.append("fence"),
    )  # fmt: skip

    data = ref.files[0].path.rpartition("/")[2]
    assert events == [
        "t", data, "day=d2", "fence", "commit", f"{ref.version:020d}.json", "_delta_log"
    ]  # fmt: skip


def test_history_is_readable_from_the_refs_alone(store: TableStore) -> None:
    refs = [write(store, "d1", number, seed=number) for number in range(1, 6)]
    for entry in (Path(store.storage.uri("t")) / "_delta_log").iterdir():
        entry.unlink()

    for number, ref in enumerate(refs, start=1):
        assert store.read_table(ref) == pa.Table.from_batches([make_rows("d1", number, 20)])


def test_refs_and_identity_come_back_from_the_log(store: TableStore) -> None:
    refs = [write(store, day, 1, seed=5, table="p/raw") for day in ("d1", "d2")]
    write(store, "d1", 1, table="p/gold")

    assert store.tables() == ["p/gold", "p/raw"]
    assert store.refs("p/raw") == refs
    assert [stored.commit for stored in store.commits("p/raw")] == [
        Commit(f"p/raw|{day}", 1, {"seed": "5"}) for day in ("d1", "d2")
    ]


def test_a_commit_that_is_checkpointed_keeps_its_transactions(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "_CHECKPOINT_EVERY", 4)
    refs = [write(store, f"d{number % 3}", number, seed=number) for number in range(1, 10)]
    log = Path(store.storage.uri("t")) / "_delta_log"

    assert sorted(path.name[:20].lstrip("0") for path in log.glob("*.checkpoint.parquet")) == [
        "4", "8",
    ]  # fmt: skip
    for version in range(8):  # a log that starts at the checkpoint
        (log / f"{version:020d}.json").rename(log.parent / f"moved-{version}")
    assert write(store, "d0", 9) == refs[8]
    with pytest.raises(FencedError):
        write(store, "d2", 7)
    with pytest.raises(CorruptArtifactError, match="entry is gone"):
        write(store, "d1", 7)


def test_first_writes_of_one_partition_are_never_both_in(store: TableStore) -> None:
    """Delta alone lets both pass, because neither removes a file of the other."""
    write(store, "other", 1)
    uri = store.storage.uri("t")
    stale = DeltaTable(uri)
    write(store, "d1", 1, seed=1)

    with pytest.raises(CommitFailedError):
        stale.create_write_transaction(
            [], "overwrite", DeltaTable(uri).schema(), ["day"], [("day", "=", "d1")],
            commit_properties=CommitProperties(
                app_transactions=[Transaction("me", 1), Transaction("partition|day=d1", 1)]
            ),
        )  # fmt: skip


def test_a_new_column_is_added_and_old_versions_stay(store: TableStore) -> None:
    old = write(store, "d1", 1)
    schema = SCHEMA.append(pa.field("stars", pa.int64()))
    batch = make_rows("d2", 2, 4).append_column("stars", pa.array([1, 2, 3, None]))

    new = store.write_partition(
        "t", schema, [batch], column="day", value="d2", commit=Commit("a", 1, {})
    )

    assert store.read_table(new).column_names == schema.names
    assert store.read_table(old).column_names == SCHEMA.names
    assert DeltaTable(store.storage.uri("t")).to_pyarrow_table()["stars"].null_count == 21


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (make_rows("d2", 1, 3), "another partition"),
        (make_rows("d1", 1, 3).drop_columns(["text"]), "columns of the table"),
        (
            make_rows("d1", 1, 3).set_column(4, "confidence", pa.array([1, 2, 3])),
            "wrong type",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    store: TableStore, batch: pa.RecordBatch, message: str
) -> None:
    with pytest.raises(SchemaMismatchError, match=message):
        store.write_partition(
            "t", SCHEMA, [batch], column="day", value="d1", commit=Commit("a", 1, {})
        )

    assert store.refs("t") == []


def test_a_column_that_changes_its_type_is_refused(store: TableStore) -> None:
    write(store, "d1", 1)
    schema = SCHEMA.set(4, pa.field("confidence", pa.string()))
    batch = make_rows("d2", 1, 1).set_column(4, "confidence", pa.array(["a"]))

    with pytest.raises(SchemaMismatchError, match="changed its type"):
        store.write_partition(
            "t", schema, [batch], column="day", value="d2", commit=Commit("a", 1, {})
        )


def test_large_partitions_are_cut_into_files(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_ROWS_PER_GROUP", 16)
    monkeypatch.setattr(parquet, "_BYTES_PER_FILE", 1)
    batches = [make_rows("d1", seed, 10) for seed in range(8)]

    ref = store.write_partition(
        "t", SCHEMA, batches, column="day", value="d1", commit=Commit("a", 1, {})
    )

    assert len(ref.files) == 4
    assert store.read_table(ref) == pa.Table.from_batches(batches).combine_chunks()
    counts = DeltaTable(store.storage.uri("t")).get_add_actions(flatten=True)["num_records"]
    assert sum(counts.to_pylist()) == 80


def test_damage_and_loss_are_told_apart_and_set_aside(store: TableStore) -> None:
    ref = write(store, "d1", 1)
    path = Path(store.storage.uri("t")) / ref.files[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    with pytest.raises(CorruptArtifactError, match="do not match their hash"):
        next(store.read(ref))
    evidence = store.quarantine(ref)
    with pytest.raises(MissingArtifactError):
        store.verify(ref)

    assert (evidence / path.name).exists()
    assert ref.files[0].sha256 in (evidence / "damage.json").read_text()
    assert store.read_table(write(store, "d1", 2)).num_rows == 20


def test_a_full_disk_is_told_and_nothing_is_left(
    store: TableStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = write(store, "d1", 1)

    def full(self: object, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet._HashingStream, "write", full)
    with pytest.raises(StorageFullError, match="no space left"):
        write(store, "d1", 2)
    monkeypatch.undo()

    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert store.read_table(before).num_rows == 20
    assert write(store, "d1", 2).rows == 20


def test_an_empty_last_commit_stops_writes(store: TableStore) -> None:
    ref = write(store, "d1", 1)
    Path(store.storage.uri(files.safe_relative("t")), "_delta_log", f"{ref.version + 1:020d}.json"
         ).touch()  # fmt: skip

    with pytest.raises(CorruptArtifactError, match="empty"):
        write(store, "d2", 1)


def test_change_data_can_be_read(store: TableStore) -> None:
    write(store, "d1", 1, count=5)
    write(store, "d1", 2, count=7)

    changes = pa.table(DeltaTable(store.storage.uri("t")).load_cdf(2, 2).read_all())

    kinds = changes["_change_type"].to_pylist()
    assert (kinds.count("insert"), kinds.count("delete")) == (7, 5)
