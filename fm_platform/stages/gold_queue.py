"""Dev rows that wait for people's answers to become gold (`annotation.use: gold`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow.compute as pc

from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.gold_of_people import agreed_classes
from fm_platform.stages.window import dev_gold, last_built_day, window
from fm_platform.workspace import Workspace


@dataclass(frozen=True)
class GoldRow:
    """A dev row whose label is wanted.

    Attributes:
        text_key / row_id / source / day / text: The row.
        nth: Which gold row of its source it would be, from 1.
        budget: How many its source may have.
    """

    text_key: str
    row_id: str
    source: str
    day: str
    text: str
    nth: int
    budget: int


def gold_wanted(ws: Workspace, spec: ProjectSpec) -> list[GoldRow]:
    """Return the rows that would fill the gold budget, without those that people agreed on.

    The first dev rows by day and row id of each source, in the window of the label model: a fixed
    order that no function or model has a say in, so they measure. Sources take turns.
    """
    if spec.annotation.use != "gold":
        return []
    last = last_built_day(ws, spec, "raw", "raw")
    if last is None:
        return []
    given = dev_gold(ws, spec, last)
    counts = Counter(given["source"].to_pylist())
    known, seen = set(given["row_id"].to_pylist()), set()
    settled = agreed_classes(ws, spec)
    budget = spec.gold.dev_rows_per_source
    found: list[GoldRow] = []
    for raw in window(ws, spec, "raw", "raw", last, spec.labeling.label_model.window_days):
        if all(counts[source.name] >= budget for source in spec.sources):
            break
        names = ["row_id", "day", "source", "split", "text", "text_key"]
        rows = tables.read(ws, raw, "raw", names)
        rows = rows.filter(pc.equal(rows["split"], "dev")).sort_by("row_id")
        for row in rows.to_pylist():
            key, source = row["text_key"], row["source"]
            if counts[source] >= budget or row["row_id"] in known or key in seen:
                continue
            seen.add(key)
            counts[source] += 1
            if key not in settled:
                named = {name: row[name] for name in names if name != "split"}
                found.append(GoldRow(**named, nth=counts[source], budget=budget))
    return sorted(found, key=lambda row: (row.nth, row.source))
