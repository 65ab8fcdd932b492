"""What each labeling function does on the rows of a window: coverage, conflict, accuracy on dev."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.labeling.diagnostics import diagnose
from fm_platform.labeling.partial import ABSTAIN, from_table
from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.workspace import Workspace


def function_table(
    ws: Workspace,
    spec: ProjectSpec,
    days: Sequence[ArtifactVersion],
    gold: pa.Table,
    versions: Mapping[str, Sequence[ArtifactVersion]],
    column: Callable[[ArtifactVersion], pa.Table],
) -> list[dict[str, Any]]:
    """Return one row for each function, in the order of the votes of a day.

    Args:
        ws: Where the rows are.
        spec: The project.
        days: `raw` of the window.
        gold: The dev gold rows that may be read.
        versions: Day -> votes of all functions; days without all of them are left out.
        column: Reads votes.
    """
    votes, sources, ids = [], [], []
    names: list[str] = []
    for raw in days:
        if raw.partition in versions:
            of_day = versions[str(raw.partition)]
            names = [version.name for version in of_day]
            columns = [column(version) for version in of_day]
            votes.append(np.stack([from_table(c)[0] for c in columns], axis=1))
            sources += tables.read(ws, raw, "raw", ["source"])["source"].to_pylist()
            ids += columns[0]["row_id"].to_pylist()
    position = {row: i for i, row in enumerate(ids)}
    classes = list(spec.taxonomy.classes)
    known = [
        (position[row], classes.index(label))
        for row, label in zip(gold["row_id"].to_pylist(), gold["label"].to_pylist(), strict=True)
        if row in position
    ]
    dev_rows = np.array([row for row, _ in known], dtype=np.int64)
    dev_labels = np.array([label for _, label in known], dtype=np.int64)
    single = np.maximum(np.concatenate(votes), np.int8(ABSTAIN))  # sets abstain here
    return diagnose(single, names, sources, dev_rows, dev_labels)
