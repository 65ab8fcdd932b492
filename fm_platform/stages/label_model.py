"""The label model of one day: fitted on the votes of its window, read day by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.labeling.candidates import Gold
from fm_platform.labeling.label_model import LabelModelFit, LabelModelFitter
from fm_platform.labeling.partial import ClassSets, Votes, from_table, unite
from fm_platform.lineage import ArtifactVersion
from fm_platform.lineage.recipes import CARRY_DAYS
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.window import window
from fm_platform.workspace import Workspace


def votes_of_day(
    ws: Workspace, versions: Sequence[ArtifactVersion], rows: int
) -> tuple[Votes, ClassSets, pa.ChunkedArray | None]:
    """Return the votes of one day, int8[n, m], the sets among them, and the ids of the rows."""
    read = [ws.columns.get(str(version.location["column"])) for version in versions]
    columns, sets = unite([from_table(table) for table in read])
    if not columns:
        return np.zeros((rows, 0), np.int8), sets, None
    return np.stack(columns, axis=1), sets, read[0]["row_id"]


def model_before(ws: Workspace, spec: ProjectSpec, day: str) -> ArtifactVersion | None:
    """Return the label model that today's carries on from; None without `carry` or a past."""
    if not spec.labeling.label_model.carry:
        return None
    last = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
    found = window(ws, spec, "label_model", "label_model", last, CARRY_DAYS)
    return found[-1] if found else None


def fit_window(
    ws: Workspace,
    spec: ProjectSpec,
    days: Sequence[ArtifactVersion],
    versions: Mapping[str, Sequence[ArtifactVersion]],
    gold: pa.Table,
    before: ArtifactVersion | None,
) -> tuple[LabelModelFit, int]:
    """Fit the label model of a window; only one day of votes is in memory at a time.

    Args:
        ws: Where the votes are.
        spec: The project.
        days: `raw` of the window, oldest first.
        versions: Day -> votes of each function; days without are left out.
        gold: Dev gold rows, as of `dev_gold`.
        before: The model of the day before, where its evidence is carried on.

    Returns:
        The fit, and how many rows it saw.
    """
    classes = list(spec.taxonomy.classes)
    functions = len(next(iter(versions.values())))
    fitter = LabelModelFitter(functions, len(classes), spec.labeling.label_model)
    known: list[tuple[Votes, ClassSets, list[str], list[str]]] = []
    rows = 0
    for raw in days:
        day = str(raw.partition)
        if day not in versions:
            continue
        sources = tables.read(ws, raw, "raw", ["source"])["source"].to_pylist()
        votes, sets, ids = votes_of_day(ws, versions[day], len(sources))
        fitter.add(votes, sources, sets)
        rows += len(votes)
        if ids is not None:
            known.append(_gold_of_day(votes, sets, ids, sources, gold, day))
    start = None if before is None else LabelModelFit.from_json(before.location["label_model"])
    return fitter.fit(_gold(known, functions, classes), start), rows


def _gold_of_day(
    votes: Votes, sets: ClassSets, ids: Any, sources: list[str], gold: pa.Table, day: str
) -> tuple[Votes, ClassSets, list[str], list[str]]:
    """Return votes, sets, sources and labels of the gold rows of one day."""
    todays = gold.filter(pc.equal(gold["day"], day))
    place = pc.index_in(todays["row_id"], value_set=ids.combine_chunks())
    there = todays.filter(pc.is_valid(place))
    positions = place.drop_null().to_numpy()
    return (
        votes[positions], sets, [sources[i] for i in positions.tolist()],
        there["label"].to_pylist(),
    )  # fmt: skip


def _gold(
    known: Sequence[tuple[Votes, ClassSets, list[str], list[str]]],
    functions: int,
    classes: Sequence[str],
) -> Gold:
    votes, book = unite([(own, sets) for own, sets, _, _ in known])
    labels = [classes.index(label) for _, _, _, listed in known for label in listed]
    return Gold(
        np.concatenate(votes) if votes else np.zeros((0, functions), np.int8),
        np.array(labels, np.int8),
        [source for _, _, sources, _ in known for source in sources],
        book,
    )
