"""Experts whose sources sent nothing to train on: left out of training, merging, evaluation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

import pyarrow.compute as pc

from fm_platform.lineage import ArtifactVersion, silent
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.models import days_of_window
from fm_platform.workspace import Workspace


def with_rows(ws: Workspace, project: LoadedProject) -> LoadedProject:
    """Return a project without the experts that have no train row in the training window.

    Raises:
        MissingArtifactError: If no day is built that a model could be made of.
    """
    spec = project.spec
    stage = "raw" if spec.task == "causal" else "cleaned"
    days = days_of_window(ws, spec, stage, f"{stage} of {spec.name} is not built yet")
    for expert in spec.experts:
        _look(ws, days, expert.sources)
    return replace(project, spec=silent.with_rows(spec, days, ws.ledger.known_derived))


def why_left_out(ws: Workspace, project: LoadedProject, expert: str) -> str | None:
    """Return why an expert is left out; None where it is not.

    Raises:
        MissingArtifactError: If no day is built that a model could be made of.
    """
    if any(one.name == expert for one in with_rows(ws, project).spec.experts):
        return None
    sources = next(one.sources for one in project.spec.experts if one.name == expert)
    told = f"no row of {', '.join(sources)} to train on came through in the training window"
    return f"left out: {told}; the other experts are merged without it"


def _look(ws: Workspace, days: Sequence[ArtifactVersion], sources: Collection[str]) -> None:
    """Derive whether days have train rows of sources, newest first, up to one that has some."""
    for day in reversed(days):
        for source in sorted({*sources} & set(day.parts)):
            key = silent.train_rows_key(day, source)
            if ws.ledger.derive(key, partial(_found, ws, day, source)) == silent.SOME:
                return


def _found(ws: Workspace, day: ArtifactVersion, source: str) -> str:
    rows = tables.read(ws, day, day.kind, ["source", "split"])
    train = pc.and_(pc.equal(rows["source"], source), pc.equal(rows["split"], "train"))
    return silent.SOME if pc.any(train).as_py() else silent.NONE
