"""What the rows of a window say of the metadata of its last day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from fm_platform.cleaning.repair import ColumnModel, Proposal
from fm_platform.cleaning.repair_rule import Repairs
from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.cleaning import MetadataRepairRule
from fm_platform.stages import tables
from fm_platform.workspace import Workspace


def repairs_of_day(
    ws: Workspace, rule: MetadataRepairRule, raws: Sequence[ArtifactVersion]
) -> Repairs:
    """Return what is proposed for the last of some days; the newest rows are learned from.

    Args:
        ws: Where the rows are.
        rule: What is declared.
        raws: `raw` of the window, the day itself last.
    """
    read: list[pa.Table] = []
    left = rule.max_rows
    for raw in reversed(raws):
        rows = tables.read(ws, raw, "raw", ["row_id", *rule.read])
        rows = rows if not read else rows.slice(0, max(left, 0))
        left -= rows.num_rows
        read.append(rows)
        if left <= 0:
            break
    if not read or not read[0].num_rows:
        return Repairs()
    today = read[0]
    values: dict[str, list[Any]] = {
        name: [value for rows in read for value in rows[name].to_pylist()] for name in rule.read
    }
    found: dict[str, dict[str, Proposal]] = {}
    ids = today["row_id"].to_pylist()
    for column in sorted(rule.columns):
        model = ColumnModel(column, rule, values)
        for i, row in enumerate(ids):
            if (one := model.propose(i)) is not None:
                found.setdefault(row, {})[column] = one
    return Repairs(found)
