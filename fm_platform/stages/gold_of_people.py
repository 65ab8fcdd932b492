"""What people agreed on as gold: their answers on dev rows fill what is left of the budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.labeling.agreement import agreed
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.annotations import readable
from fm_platform.stages.window import window
from fm_platform.workspace import Workspace

_COLUMNS = ("row_id", "day", "source", "split", "text_key")


def filled(ws: Workspace, spec: ProjectSpec, day: str, gold: pa.Table) -> pa.Table:
    """Return gold rows of sources, and answered dev rows of the window up to the budget of each.

    The first by day and row id, each text once. Answers on other rows are no gold: rows of train
    were asked because they are hard, and gold measures.

    Args:
        ws: Where rows and answers are.
        spec: The project; `gold.dev_rows_per_source` is the budget.
        day: The last of the window of the label model.
        gold: Rows that have a gold label anyway: row_id, day, source, label.
    """
    classes = agreed_classes(ws, spec)
    more: list[dict[str, str]] = []
    for row, _ in within_budget(ws, spec, day, gold, _COLUMNS, sorted(classes)):
        taken = {name: row[name] for name in ("row_id", "day", "source")}
        more.append({**taken, "label": classes[row["text_key"]]})
    return pa.concat_tables([gold, pa.Table.from_pylist(more, gold.schema)]) if more else gold


def within_budget(
    ws: Workspace,
    spec: ProjectSpec,
    day: str,
    gold: pa.Table,
    columns: Sequence[str],
    keys: Sequence[str] | None = None,
) -> Iterator[tuple[dict[str, str], int]]:
    """Yield the dev rows that fill what gold rows leave of the budget of each source.

    The first by day and row id in the window of the label model, each text once.

    Args:
        ws: Where the rows are.
        spec: The project.
        day: The last of the window.
        gold: Rows that count already, by their ids.
        columns: What is wanted of a row; `_COLUMNS` among them.
        keys: Text keys that count; None: all.

    Yields:
        A row, and which gold row of its source it is, from 1.
    """
    budget = spec.gold.dev_rows_per_source
    counts = Counter(gold["source"].to_pylist())
    known = set(gold["row_id"].to_pylist())
    seen: set[str] = set()
    for raw in window(ws, spec, "raw", "raw", day, spec.labeling.label_model.window_days):
        if keys == [] or all(counts[source.name] >= budget for source in spec.sources):
            break
        rows = tables.read(ws, raw, "raw", columns)
        wanted = pc.equal(rows["split"], "dev")
        if keys is not None:
            answered = pc.is_in(rows["text_key"], value_set=pa.array(keys, pa.string()))
            wanted = pc.and_(wanted, answered)
        for row in rows.filter(wanted).sort_by("row_id").to_pylist():
            key, source = row["text_key"], row["source"]
            if counts[source] >= budget or row["row_id"] in known or key in seen:
                continue
            seen.add(key)
            counts[source] += 1
            yield row, counts[source]


def agreed_classes(ws: Workspace, spec: ProjectSpec) -> dict[str, str]:
    """Return text key -> the class of today that enough people agree on.

    An answer of several classes is left out. Answers are few beside the rows: all are read.
    """
    told: dict[str, dict[str, str]] = {}
    for row in readable(ws, spec):
        if len(row["classes"]) == 1:
            told.setdefault(row["text_key"], {})[row["annotator"]] = row["classes"][0]
    least = spec.annotation.minimum_annotators
    found = {key: agreed(answers, least) for key, answers in sorted(told.items())}
    return {key: label for key, label in found.items() if label is not None}
