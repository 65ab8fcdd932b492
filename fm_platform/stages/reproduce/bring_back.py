"""The bytes of a model that retention removed, built again and put back where they were."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fm_platform.errors import MissingArtifactError
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import version_name
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.common import Reporter
from fm_platform.stages.reproduce.replay import make_plan, reproduce
from fm_platform.stages.reproduce.scratch import scratch_workspace
from fm_platform.store.manifest import MANIFEST
from fm_platform.workspace import Workspace


def bring_back(
    ws: Workspace, model: ArtifactVersion, project: LoadedProject, log: Reporter
) -> None:
    """Build a model again elsewhere and publish it, where every hash is that of the record.

    Args:
        ws: Where its bytes are gone.
        model: The version, with its inputs.
        project: The project of today, for rows and base model.
        log: Told each artifact.

    Raises:
        MissingArtifactError: If something comes out otherwise: then it is gone.
    """
    with tempfile.TemporaryDirectory(dir=ws.home.work, prefix="bring-back-") as folder:
        done = reproduce(ws, make_plan(ws, model), Path(folder), project, log)
        first = done.first_difference
        if first is not None:
            raise MissingArtifactError(
                f"the bytes of {version_name(model)} are gone, and it does not come out as it was",
                where=model.content_hash,
                found=f"{first.name} {first.state}: {first.why}",
                next_step="fm log shows other moments; fm gc --days and fm pin keep models longer",
            )
        again = scratch_workspace(Path(folder) / "home", ws.home)
        staged = Path(folder) / "model"
        built = again.models.open(str(model.location["model"]))
        shutil.copytree(built, staged, ignore=shutil.ignore_patterns(MANIFEST))
        ws.models.publish(
            staged,
            {"project": model.project, "name": model.name, "recipe_hash": model.recipe_hash},
        )
    ws.ledger.note_restored([model.id])
