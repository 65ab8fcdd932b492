"""Load the models of a project as its stages use them."""

from __future__ import annotations

from typing import Any

from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.load import LoadedProject
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace


def classifier(ws: Workspace, project: LoadedProject, version: ArtifactVersion) -> Any:
    """Load a merged model or base + adapter, with every byte verified first."""
    from fm_platform.training.predict import load_adapter, load_classifier

    path = ws.model_path(version)
    if version.kind == "merged_model":
        return load_classifier(path)
    return load_adapter(resolve_base_model(project.spec.base_model, project.directory), path)
