"""Days of a window, and what earlier days hold that matters today."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.lineage.records import ArtifactVersion
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.workspace import Workspace


def window(
    ws: Workspace, spec: ProjectSpec, kind: str, name: str, last_day: str, days: int
) -> list[ArtifactVersion]:
    """Return the versions in use of the `days` days that end with `last_day`, oldest first.

    Only the days of the window are asked for: the cost does not grow with history.
    """
    end = date.fromisoformat(last_day)
    first = max(spec.calendar.start, end - timedelta(days=days - 1))
    return ws.ledger.latest_of_days(spec.name, kind, name, first.isoformat(), last_day)


def last_built_day(ws: Workspace, spec: ProjectSpec, kind: str, name: str) -> str | None:
    """Return the last day that is built of one artifact, or None."""
    return ws.ledger.last_partition(spec.name, kind, name)


def dev_gold(ws: Workspace, spec: ProjectSpec, day: str) -> pa.Table:
    """Return the dev gold rows that labeling may read on `day`.

    For each source the first `Gold.dev_rows_per_source` by day and row id, within the window of
    the label model: a fixed prefix of a fixed order, so later days add rows but never swap them.
    A label of before counts where it is one class today; rows whose class is gone or was split
    are left out.

    Returns:
        Columns row_id, day, source, label; at most budget x sources rows.
    """
    columns = ["row_id", "day", "source", "split", "label"]
    wanted = tables.GOLD.names
    schema = pa.schema([tables.GOLD.field(wanted.index(name)) for name in columns])
    taken: list[pa.Table] = []
    counts: dict[str, int] = {}
    budget = spec.gold.dev_rows_per_source
    days = window(ws, spec, "raw", "raw", day, spec.labeling.label_model.window_days)
    sources = {source.name for source in spec.sources}
    for version in days:
        if all(counts.get(source, 0) >= budget for source in sources):
            break
        gold = tables.read(ws, version, "gold", columns)
        gold = in_classes_of_today(gold, spec, "label")
        gold = gold.filter(pc.equal(gold["split"], "dev")).sort_by("row_id")
        for source in sorted(sources):
            left = budget - counts.get(source, 0)
            if left > 0:
                rows = gold.filter(pc.equal(gold["source"], source)).slice(0, left)
                counts[source] = counts.get(source, 0) + rows.num_rows
                taken.append(rows)
    return tables.combine(taken, schema).drop_columns(["split"])


def in_classes_of_today(rows: pa.Table, spec: ProjectSpec, column: str) -> pa.Table:
    """Return the rows whose label is one class today, with that class as their label."""
    single = spec.taxonomy.single
    rows = rows.filter(pc.is_in(rows[column], value_set=pa.array(sorted(single), pa.string())))
    if not spec.taxonomy.former:
        return rows
    labels = pa.array([single[label] for label in rows[column].to_pylist()], pa.string())
    return rows.set_column(rows.schema.get_field_index(column), column, labels)
