"""Experts whose sources have sent nothing: left out of training, merging and evaluation."""

from __future__ import annotations

from dataclasses import replace

from fm_platform.lineage import silent
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.models import days_of_window
from fm_platform.workspace import Workspace


def with_rows(ws: Workspace, project: LoadedProject) -> LoadedProject:
    """Return a project without the experts that have no row in the training window.

    Raises:
        MissingArtifactError: If no day is built that a model could be made of.
    """
    spec = project.spec
    stage = "raw" if spec.task == "causal" else "cleaned"
    days = days_of_window(ws, spec, stage, f"{stage} of {spec.name} is not built yet")
    return replace(project, spec=silent.with_rows(spec, days))


def why_left_out(ws: Workspace, project: LoadedProject, expert: str) -> str | None:
    """Return why an expert is left out; None where it is not.

    Raises:
        MissingArtifactError: If no day is built that a model could be made of.
    """
    if any(one.name == expert for one in with_rows(ws, project).spec.experts):
        return None
    sources = next(one.sources for one in project.spec.experts if one.name == expert)
    told = f"no row of {', '.join(sources)} came through in the training window"
    return f"left out: {told}; the other experts are merged without it"
