"""Deterministic rows, and the writers that run in their own processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from fm_platform.store import delta
from fm_platform.store.content import content_hash
from fm_platform.store.tables import Commit, TableRef, TableStore
from tests.support.kill import Acks, Ready

SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("day", pa.string()),
        ("text", pa.string()),
        ("votes", pa.list_(pa.int8())),
        ("confidence", pa.float32()),
    ]
)


def make_rows(day: str, seed: int, count: int) -> pa.RecordBatch:
    """Return `count` rows of `day` that depend on `seed` alone."""
    rng = np.random.default_rng(seed)
    return pa.record_batch(
        {
            "row_id": [f"{seed:05d}-{n:04d}" for n in range(count)],
            "day": [day] * count,
            "text": [None if n % 11 == 3 else f"text {seed} {n}" for n in range(count)],
            "votes": pa.array(
                rng.integers(-1, 3, (count, 3)).astype(np.int8).tolist(), pa.list_(pa.int8())
            ),
            "confidence": rng.random(count, np.float32),
        },
        schema=SCHEMA,
    )


def make_table(day: str, seed: int, count: int) -> pa.Table:
    """Return `make_rows` as a table."""
    return pa.Table.from_batches([make_rows(day, seed, count)])


def write(
    store: TableStore, day: str, number: int, *, seed: int = 0, count: int = 20,
    app: str | None = None, table: str = "t",
) -> TableRef:  # fmt: skip
    """Write one partition; the number is the commit's."""
    return store.write_partition(
        table, SCHEMA, [make_rows(day, seed, count)], column="day", value=day,
        commit=Commit(app or f"{table}|{day}", number, {"seed": str(seed)}),
    )  # fmt: skip


def serial_day(number: int) -> str:
    """Return the partition that commit `number` of the serial writer replaces."""
    return f"d{number % 5}"


def serial_rows(number: int) -> pa.RecordBatch:
    """Return what commit `number` of the serial writer writes."""
    return make_rows(serial_day(number), number, 40 + number % 7)


def serial_hash(number: int) -> str:
    """Return the content hash of commit `number` of the serial writer."""
    return content_hash([serial_rows(number)], SCHEMA)


def write_serially(ready: Ready, root: str, acks: str, start: int, stop: int) -> None:
    """Commit start, start + 1, … in turn over five partitions; acknowledge each."""
    store, log = TableStore(root), Acks(Path(acks))
    ready()
    for number in range(start, stop):
        day = serial_day(number)
        ref = store.write_partition(
            "t", SCHEMA, [serial_rows(number)], column="day", value=day,
            commit=Commit(f"t|{day}", number, {"n": str(number)}),
        )  # fmt: skip
        log.append(f"{number} {ref.content_hash} {ref.version}")


def take_no_turns() -> None:
    """Do without the local lock, as on an object store: only Delta's own checks remain."""
    delta._LOCK_PATIENCE_S = 0.0


def deliver(ready: Ready, root: str, deliveries: list[int], count: int, turns: bool) -> None:
    """Deliver batches, each to its own partition; others deliver the same ones."""
    store = TableStore(root)
    if not turns:
        take_no_turns()
    ready()
    for batch in deliveries:
        write(store, f"b{batch}", 1, seed=batch, count=count)


def write_many(ready: Ready, root: str, worker: int, commits: int, acks: str) -> None:
    """Commit many times to partitions of this worker, beside other workers."""
    store, log = TableStore(root), Acks(Path(acks))
    ready()
    for number in range(commits):
        ref = write(store, f"w{worker}-{number % 5}", number, seed=1000 * worker + number)
        log.append(f"{worker} {number} {ref.content_hash}")


def write_contested(ready: Ready, root: str, worker: int, rounds: int, turns: bool) -> None:
    """Write the same partitions as the other workers, under a name of its own."""
    store = TableStore(root)
    if not turns:
        take_no_turns()
    ready()
    for number in range(rounds):
        write(store, f"c{number}", 1, seed=worker, app=f"worker {worker}|c{number}")
