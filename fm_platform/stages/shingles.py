"""The shingles of a day as an artifact, and the near duplicates of a day among those of others.

The shingles of a day are made once. A later day is looked up in those of its window, one day at a
time: what a day costs does not grow with history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.cleaning.near import Inverted, Pairs, near_earlier, near_known
from fm_platform.cleaning.near_rule import Twin, Twins
from fm_platform.cleaning.shingles import Rows, shingles
from fm_platform.lineage import ArtifactVersion, Produced, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import shingles_recipe
from fm_platform.spec.cleaning import NearDuplicatesRule
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.workspace import Workspace


def shingles_version(
    ws: Workspace,
    spec: ProjectSpec,
    rule: NearDuplicatesRule,
    raw: ArtifactVersion,
    run: RunContext,
) -> ArtifactVersion:
    """Return the shingles of one day of `raw`, building them where they are missing."""
    recipe = shingles_recipe(spec, str(raw.partition), raw, rule)

    def compute(lease: Lease) -> Produced:
        rows = tables.read(ws, raw, "raw", ["text", "split"])
        documents = shingles(rows["text"].to_pylist(), rule.size, rule.unit)
        index = Inverted.of(documents)
        test = np.asarray(pc.equal(rows["split"], "test").to_numpy(), bool)
        table = pa.table(
            {
                "token": index.tokens.astype(np.int64),  # 48 bits
                "document": index.documents,
                "test": test[index.documents],
            }
        )
        content = ws.columns.put(table)
        return Produced(content, {"column": content}, rows.num_rows, table.nbytes)

    return tables.build(ws, recipe, compute, run).version


@dataclass(frozen=True)
class _Day:
    """One day to look up in: all its rows, and those that may be trained on."""

    whole: Inverted
    open: Inverted


def twins_of_day(
    ws: Workspace, built: Sequence[tuple[ArtifactVersion, ArtifactVersion]], similarity: float
) -> Twins:
    """Return the near duplicates of the last day of a window.

    Args:
        ws: Where they are.
        built: (raw, its shingles) of each day, the last one being the day itself.
        similarity: Least Jaccard similarity.
    """
    raw, own = built[-1]
    rows = tables.read(ws, raw, "raw", ["row_id", "split"])
    ids = rows["row_id"].to_pylist()
    test = np.asarray(pc.equal(rows["split"], "test").to_numpy(), bool)
    today = _read(ws, own).whole.forward
    train, held_out = np.flatnonzero(~test), np.flatnonzero(test)
    outside: dict[str, Twin] = {}
    leaked: dict[str, Twin] = {}
    near = near_known(today.take(train), Inverted.of(today.take(held_out)), similarity)
    for left, right, alike in _each(near):
        outside[ids[train[right]]] = Twin(ids[held_out[left]], str(raw.partition), True, alike)
    for before, version in built[-2::-1]:  # the nearest day first
        day = _read(ws, version)
        for documents, index, found in ((train, day.whole, outside), (held_out, day.open, leaked)):
            pairs = near_known(today.take(documents), index, similarity)
            _note(ws, before, documents, ids, pairs, found)
    within = near_earlier(today.take(train), similarity)
    same_day = {
        ids[train[right]]: Twin(ids[train[left]], str(raw.partition), False, alike)
        for left, right, alike in _each(within)
    }
    return Twins(outside, same_day, leaked)


def _read(ws: Workspace, version: ArtifactVersion) -> _Day:
    table = ws.columns.get(str(version.location["column"]))
    tokens = table["token"].to_numpy().astype(np.uint64)
    documents = table["document"].to_numpy()
    is_open = ~np.asarray(table["test"].to_numpy(), bool)
    count = version.rows or 0
    return _Day(
        Inverted(tokens, documents, count),
        Inverted(tokens[is_open], documents[is_open], count),
    )


def _note(
    ws: Workspace, raw: ArtifactVersion, documents: Rows, ids: list[str], pairs: Pairs,
    found: dict[str, Twin],
) -> None:  # fmt: skip
    """Add pairs of a day to what is found; the names of its rows are read only where needed."""
    if not len(pairs.left):
        return
    rows = tables.read(ws, raw, "raw", ["row_id", "split"])
    others, splits = rows["row_id"].to_pylist(), rows["split"].to_pylist()
    for left, right, alike in _each(pairs):
        twin = Twin(others[left], str(raw.partition), splits[left] == "test", alike)
        found.setdefault(ids[documents[right]], twin)


def _each(pairs: Pairs) -> zip[tuple[int, int, float]]:
    return zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True)
