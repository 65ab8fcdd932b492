"""What is kept of the past to train on again: a sample of all days, balanced, of bounded size.

Of each split, source and class the rows with the smallest hash of seed and row id stay: a uniform
sample of everything seen (bottom-k sampling; Cohen & Kaplan 2007, "Summarizing data using
bottom-k sketches"), whatever the order of days, without a random state, and merged day by day at
the cost of a day. Rehearsal of old rows is the plain remedy against forgetting (Rolnick et al.
2019, "Experience Replay for Continual Learning", arXiv 1811.11682).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

STRATA = ("split", "source", "label")


def updated(held: pa.Table | None, day: pa.Table, per_stratum: int, seed: int) -> pa.Table:
    """Return the reservoir after a day.

    Args:
        held: The reservoir before it; None: there is none.
        day: Cleaned rows of the day: row_id, split, source, label and what else they have.
        per_stratum: Rows kept of each split, source and class, 1 or more.
        seed: Another seed keeps other rows.

    Returns:
        At most `per_stratum` rows of each stratum, in order of stratum and hash.
    """
    rows = day
    if held is not None and held.num_rows:
        old = held.filter(pc.invert(pc.is_in(held["row_id"], value_set=_ids(day))))
        rows = pa.concat_tables([old, day], promote_options="default")
    return ranked(rows, per_stratum, str(seed))


def replayed(
    held: pa.Table, count: int, sources: Collection[str], new: pa.Table, salt: str
) -> pa.Table:
    """Return about `count` train rows of a reservoir, the classes and sources in equal parts.

    Args:
        held: The reservoir.
        count: Rows wanted; fewer where it holds fewer.
        sources: Of these sources.
        new: Rows that are trained on anyway; none of them is chosen.
        salt: Another one chooses other rows: the day, so that each day replays its own.
    """
    wanted = pc.and_(
        pc.equal(held["split"], "train"),
        pc.is_in(held["source"], value_set=pa.array(sorted(sources), pa.string())),
    )
    rows = held.filter(pc.and_(wanted, pc.invert(pc.is_in(held["row_id"], value_set=_ids(new)))))
    strata = rows.group_by(list(STRATA)).aggregate([]).num_rows
    if not strata or count < 1:
        return rows.slice(0, 0)
    return ranked(rows, -(-count // strata), salt)


def ranked(rows: pa.Table, most: int, salt: str) -> pa.Table:
    """Return of each stratum the `most` rows with the smallest hash, in that order."""
    if not rows.num_rows:
        return rows
    hashes = _hashes(rows["row_id"].to_pylist(), salt)
    columns = [np.asarray(rows[name].to_pylist(), dtype=object) for name in STRATA]
    codes = [np.unique(column, return_inverse=True)[1] for column in columns]
    order = np.lexsort((hashes, *reversed(codes)))
    sorted_codes = np.stack([code[order] for code in codes])
    first = np.ones(len(order), bool)
    first[1:] = (sorted_codes[:, 1:] != sorted_codes[:, :-1]).any(axis=0)
    starts = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    return rows.take(pa.array(order[np.arange(len(order)) - starts < most]))


def _hashes(row_ids: list[str], salt: str) -> npt.NDArray[np.uint64]:
    key = salt.encode()[:64]
    data = b"".join(
        hashlib.blake2b(row.encode(), digest_size=8, key=key).digest() for row in row_ids
    )
    return np.frombuffer(data, ">u8").astype(np.uint64)


def _ids(rows: pa.Table) -> pa.Array:
    ids = rows["row_id"]
    return ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
