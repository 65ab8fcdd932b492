"""Training as a project declares it beyond plain LoRA: which states, then the library's call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from fm_platform.errors import CorruptArtifactError
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.configs import trained
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import Expert, ProjectSpec
from fm_platform.stages.common import Reporter
from fm_platform.stages.models import step_reporter
from fm_platform.training.base_model import BaseModel
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.stages.activations import DayStates
    from fm_platform.stages.subset import RowVectors
    from fm_platform.training.train import TrainedExpert

Train = Callable[["DayStates | None"], "TrainedExpert"]


def is_plain(spec: ProjectSpec) -> bool:
    """Whether a project trains by plain LoRA through all layers on all rows alike, as most do."""
    declared = trained(spec)["training"]
    special = {"method", "frozen_layers", "loss", "weights", "subset", "narrow_gap"}
    return not special & set(declared)


def train_start(
    ws: Workspace,
    project: LoadedProject,
    run: RunContext,
    log: Reporter,
    days: Sequence[ArtifactVersion],
    train: pa.Table,
    dev: pa.Table,
    base: BaseModel,
    folder: Path,
    vectors: RowVectors | None = None,
) -> TrainedExpert:
    """Train the shared start on the rows `train` of `days`."""
    from fm_platform.training.variants import fit_start_as

    spec = project.spec

    def call(states: DayStates | None) -> TrainedExpert:
        return fit_start_as(
            train, dev, base, spec.training, spec.taxonomy.classes, folder,
            step_reporter(log, "shared start"), states, vectors,
        )  # fmt: skip

    return _with_states(ws, project, run, log, days, call)


def train_adapter(
    ws: Workspace,
    project: LoadedProject,
    run: RunContext,
    log: Reporter,
    days: Sequence[ArtifactVersion],
    train: pa.Table,
    dev: pa.Table,
    base: BaseModel,
    expert: Expert,
    start: ArtifactVersion,
    folder: Path,
    vectors: RowVectors | None = None,
) -> TrainedExpert:
    """Train one expert on its rows `train` of `days`, begun from `start`."""
    from fm_platform.training.variants import train_expert_as

    spec = project.spec

    def call(states: DayStates | None) -> TrainedExpert:
        return train_expert_as(
            train, dev, base, ws.model_path(start), spec.training, spec.taxonomy.classes, folder,
            step_reporter(log, f"expert {expert.name}"), states, vectors,
        )  # fmt: skip

    own = [day for day in days if set(expert.sources) & set(day.parts)]
    return _with_states(ws, project, run, log, own, call)


def _with_states(
    ws: Workspace,
    project: LoadedProject,
    run: RunContext,
    log: Reporter,
    days: Sequence[ArtifactVersion],
    train: Train,
) -> TrainedExpert:
    """Call `train` with the states of frozen layers; damaged ones are computed again."""
    frozen = project.spec.training.frozen_layers
    if not frozen:
        return train(None)
    from fm_platform.stages.activations import Activations

    activations = Activations(ws, project, run, log, frozen)
    try:
        return train(activations.of_days(days))
    except CorruptArtifactError as error:
        healed = activations.heal(days)
        log.info(f"{error.message}: the states of {healed} texts were computed again")
        return train(activations.of_days(days))  # goes on from its checkpoint
