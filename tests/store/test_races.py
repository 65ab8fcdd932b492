"""R2 and R3: writers that race lose nothing, and a batch delivered often is stored once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from deltalake import DeltaTable

from fm_platform.store.tables import TableStore
from tests.store.rows import deliver, write_contested, write_many
from tests.support.kill import Acks, race


def race_deliveries(root: Path, batches: int, seed: int, turns: bool) -> None:
    """Deliver every batch three times, spread over six workers that start at once."""
    deliveries = [batch for batch in range(batches) for _ in range(3)]
    random.Random(seed).shuffle(deliveries)
    lake, size = str(root / "lake"), 25

    race(deliver, [(lake, deliveries[worker::6], size, turns) for worker in range(6)])

    store = TableStore(lake)
    table = DeltaTable(store.storage.uri("t")).to_pyarrow_table()
    assert table.num_rows == batches * size
    assert len(table["row_id"].unique()) == batches * size
    assert len(store.refs("t")) == batches
    assert len(list(root.rglob("*.parquet"))) == batches + len(list(root.rglob("*.checkpoint.*")))


def race_commits(root: Path, workers: int, commits: int) -> None:
    lake, acks = str(root / "lake"), str(root / "acks")

    race(write_many, [(lake, worker, commits, acks) for worker in range(workers)])

    store = TableStore(lake)
    stored = store.commits("t")
    contents = {(s.ref.value.split("-")[0], s.commit.number): s.ref.content_hash for s in stored}
    assert len(stored) == len(contents) == workers * commits
    for line in Acks(Path(acks)).lines():
        worker, number, content = line.split()
        assert contents.pop((f"w{worker}", int(number))) == content
    assert not contents
    newest = {s.ref.value: s.ref for s in stored}
    table = DeltaTable(store.storage.uri("t")).to_pyarrow_table()
    assert table.num_rows == sum(ref.rows for ref in newest.values())


@pytest.mark.parametrize("turns", [True, False])
def test_a_batch_delivered_three_times_is_stored_once(tmp_path: Path, turns: bool) -> None:
    race_deliveries(tmp_path, batches=8, seed=3, turns=turns)


@pytest.mark.slow
@pytest.mark.parametrize("turns", [True, False])
def test_many_batches_delivered_three_times_are_stored_once(tmp_path: Path, turns: bool) -> None:
    race_deliveries(tmp_path, batches=60, seed=4, turns=turns)


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    race_commits(tmp_path, workers=4, commits=5)


@pytest.mark.slow
def test_eight_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    race_commits(tmp_path, workers=8, commits=25)


@pytest.mark.parametrize("turns", [True, False])
def test_writers_of_one_partition_never_double_it(tmp_path: Path, turns: bool) -> None:
    lake, rounds = str(tmp_path / "lake"), 4

    race(write_contested, [(lake, worker, rounds, turns) for worker in range(4)])

    table = DeltaTable(f"{lake}/t").to_pyarrow_table()
    assert table.num_rows == rounds * 20
    pairs = zip(table["day"].to_pylist(), table["row_id"].to_pylist(), strict=True)
    writers = {(day, row_id.split("-")[0]) for day, row_id in pairs}
    assert len(writers) == rounds, "two writers' rows in one partition"
