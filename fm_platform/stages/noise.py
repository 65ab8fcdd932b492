"""The labels of a day judged by heads that never saw them, on the frozen embeddings of a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.cleaning.confident import judge
from fm_platform.cleaning.noise_rule import Doubts
from fm_platform.hashing import sha256_hex
from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.cleaning import LabelNoiseRule
from fm_platform.stages import tables
from fm_platform.stages.embeddings import Embeddings
from fm_platform.workspace import Workspace

Day = tuple[ArtifactVersion, ArtifactVersion]
"""`raw` and `weak_labels` of a day."""


def doubts_of_day(
    ws: Workspace, rule: LabelNoiseRule, days: Sequence[Day], vectors: Embeddings,
    classes: Sequence[str],
) -> Doubts:  # fmt: skip
    """Return what is believed of the labels of the last of some days.

    Only labeled rows of the train and dev splits are learned from and judged; the newest rows
    count where there are more than `max_rows`. The fold of a row is a hash of its id.
    """
    read: list[tuple[pa.Table, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = []
    left = rule.max_rows
    for raw, weak_labels in reversed(days):
        rows = tables.read(ws, weak_labels, "weak_labels", ["row_id", "split", "label", "labeled"])
        known = pc.is_in(rows["label"], value_set=pa.array(list(classes)))
        rows = rows.filter(pc.and_(pc.and_(rows["labeled"], known),
                                   pc.not_equal(rows["split"], "test")))  # fmt: skip
        rows = rows if not read else rows.slice(0, max(left, 0))
        left -= rows.num_rows
        if rows.num_rows:
            read.append((rows, vectors.matrix(raw, rows["row_id"].to_pylist())))
        elif not read:
            return Doubts({}, {}, {})
    ids = [row for rows, _ in read for row in rows["row_id"].to_pylist()]
    place = {name: i for i, name in enumerate(classes)}
    labels = np.array([place[x] for rows, _ in read for x in rows["label"].to_pylist()], np.int64)
    folds = np.array([int(sha256_hex(row.encode())[:8], 16) % rule.folds for row in ids], np.int64)
    matrix = np.concatenate([part for _, part in read])
    judged = judge(matrix, labels, folds, len(classes))
    today = read[0][0].num_rows
    lengths = np.linalg.norm(matrix[:today], axis=1)
    return Doubts(
        {row: tuple(p) for row, p in zip(ids[:today], judged.probabilities.tolist(), strict=False)},
        {row: tuple(p) for row, p in zip(ids[:today], judged.predicted.tolist(), strict=False)},
        dict(zip(ids[:today], lengths.tolist(), strict=False)),
    )
