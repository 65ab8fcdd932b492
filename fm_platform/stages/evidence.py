"""The rows that decide among merges, or among trials: dev rows that people labeled."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.lineage.training_recipes import decides_by_gold
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.gold import gold_key, gold_of
from fm_platform.stages.window import window
from fm_platform.workspace import Workspace


class Evidence:
    """The gold rows that a merge of one day may read; the same that labeling may.

    Attributes:
        hash: Of the rows, for the recipe; None where a merge asks no gold row.
    """

    def __init__(self, ws: Workspace, spec: ProjectSpec, day: str) -> None:
        self._ws, self._spec, self._day = ws, spec, day
        self.hash: str | None = None
        if decides_by_gold(spec):
            self.hash = gold_hash(ws, spec, day)

    def rows(self) -> pa.Table | None:
        """Return the rows as `gold_rows`; None where none are asked."""
        return None if self.hash is None else gold_rows(self._ws, self._spec, self._day)


def gold_hash(ws: Workspace, spec: ProjectSpec, day: str) -> str:
    """Return the hash of the gold rows that labeling may read on `day`."""
    raw = window(ws, spec, "raw", "raw", day, spec.labeling.label_model.window_days)
    key = gold_key(ws, spec, raw)
    return ws.ledger.derive(key, lambda: tables.hash_rows(gold_of(ws, spec, day)))


def gold_rows(ws: Workspace, spec: ProjectSpec, day: str) -> pa.Table:
    """Return the gold rows that labeling may read on `day`, their label as a sure probability.

    One day is in memory at a time, and only days that hold such rows are read.

    Returns:
        Columns row_id, source, text, probabilities list<float32>[k].
    """
    gold = gold_of(ws, spec, day)
    ids = gold["row_id"].combine_chunks()
    texts: dict[str, str] = {}
    for held in sorted(set(gold["day"].to_pylist())):
        for version in window(ws, spec, "raw", "raw", held, 1):
            rows = tables.read(ws, version, "raw", ["row_id", "text"])
            rows = rows.filter(pc.is_in(rows["row_id"], value_set=ids))
            texts |= dict(zip(rows["row_id"].to_pylist(), rows["text"].to_pylist(), strict=True))
    gold = gold.filter(pc.is_in(gold["row_id"], value_set=pa.array(sorted(texts), pa.string())))
    classes = list(spec.taxonomy.classes)
    labels = [classes.index(label) for label in gold["label"].to_pylist()]
    sure = np.eye(len(classes), dtype=np.float32)[labels]
    return pa.table(
        {
            "row_id": gold["row_id"], "source": gold["source"],
            "text": pa.array([texts[i] for i in gold["row_id"].to_pylist()], pa.string()),
            "probabilities": tables.lists(sure, pa.float32()),
        }
    )  # fmt: skip
