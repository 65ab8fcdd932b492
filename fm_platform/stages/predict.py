"""Answers of a model version: what `fm predict` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fm_platform.errors import FMError
from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.load import LoadedProject
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace, find_project

ALIASES = ("champion", "challenger")


def classifier(ws: Workspace, project: LoadedProject, version: ArtifactVersion) -> Any:
    """Load a merged model or base + adapter, with every byte verified first."""
    from fm_platform.training.predict import load_adapter, load_classifier

    path = ws.model_path(version)
    if version.kind == "merged_model":
        return load_classifier(path)
    return load_adapter(resolve_base_model(project.spec.base_model, project.directory), path)


def find_model(ws: Workspace, project: str, reference: str) -> ArtifactVersion:
    """Return the model version that an alias or a content-hash prefix names.

    Raises:
        FMError: If it names none, or more than one.
    """
    if reference in ALIASES:
        version = ws.ledger.alias(project, reference)
        if version is None:
            raise FMError(f"{project} has no {reference} yet", next_step=f"fm run {project}")
        return version
    kinds = ("merged_model", "adapter", "start")
    found = [v for v in ws.ledger.find(reference) if v.project == project and v.kind in kinds]
    if len(found) != 1:
        raise FMError(
            f"{reference!r} names {len(found)} models of {project}",
            expected=f"{', '.join(ALIASES)}, or the first digits of one content hash",
            found=", ".join(v.content_hash[:12] for v in found[:8]) or None,
        )
    return found[0]


def predict(project_name: str, reference: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return text, label, confidence, probabilities and the model's hash for each text."""
    from fm_platform.training.predict import predict_probabilities

    ws, project = Workspace.open(), find_project(project_name)
    version = find_model(ws, project_name, reference)
    model = classifier(ws, project, version)
    probabilities = predict_probabilities(
        model, list(texts), max_tokens=project.spec.training.max_tokens
    )
    classes = list(project.spec.taxonomy.classes)
    return [
        {
            "text": text,
            "label": classes[int(row.argmax())],
            "confidence": float(row.max()),
            "probabilities": {name: float(p) for name, p in zip(classes, row, strict=True)},
            "model": version.content_hash,
        }
        for text, row in zip(texts, probabilities, strict=True)
    ]
