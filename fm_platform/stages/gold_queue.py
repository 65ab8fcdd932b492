"""Dev rows that wait for people's answers to become gold (`annotation.use: gold`)."""

from __future__ import annotations

from dataclasses import dataclass

from fm_platform.spec.models import ProjectSpec
from fm_platform.stages.gold_of_people import agreed_classes, within_budget
from fm_platform.stages.window import dev_gold, last_built_day
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
    settled = agreed_classes(ws, spec)
    budget = spec.gold.dev_rows_per_source
    names = ["row_id", "day", "source", "split", "text", "text_key"]
    found = []
    for row, nth in within_budget(ws, spec, last, given, names):
        if row["text_key"] not in settled:
            named = {name: row[name] for name in names if name != "split"}
            found.append(GoldRow(**named, nth=nth, budget=budget))
    return sorted(found, key=lambda row: (row.nth, row.source))
