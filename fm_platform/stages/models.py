"""What the stages that make models share: training rows, base model, a place to work."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import MissingArtifactError
from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter
from fm_platform.stages.window import last_built_day, window
from fm_platform.training.train import StepInfo
from fm_platform.workspace import Workspace


def training_days(ws: Workspace, spec: ProjectSpec) -> list[ArtifactVersion]:
    """Return `cleaned` of the training window, which ends with the last cleaned day.

    Raises:
        MissingArtifactError: If no day is cleaned.
    """
    return days_of_window(ws, spec, "cleaned", f"no day of {spec.name} is cleaned yet")


def days_of_window(
    ws: Workspace, spec: ProjectSpec, stage: str, without: str
) -> list[ArtifactVersion]:
    """Return a stage's days of the training window, which ends with the last one built.

    Raises:
        MissingArtifactError: If no day is built: the message is `without`.
    """
    last = last_built_day(ws, spec, stage, stage)
    if last is None:
        raise MissingArtifactError(without, next_step=f"fm run {spec.name}")
    return window(ws, spec, stage, stage, last, spec.training.window_days)


def rows_of(
    ws: Workspace,
    days: Sequence[ArtifactVersion],
    split: str,
    sources: Sequence[str] | None = None,
) -> pa.Table:
    """Return the cleaned rows of a split, of some sources, in order of day and row id."""
    found = []
    for day in days:
        if not day.rows or (sources is not None and not set(sources) & set(day.parts)):
            continue
        rows = tables.read(ws, day, "cleaned")
        rows = rows.filter(pc.equal(rows["split"], split))
        if sources is not None:
            rows = rows.filter(pc.is_in(rows["source"], value_set=pa.array(sorted(sources))))
        found.append(rows)
    return tables.combine(found, tables.CLEANED)


def targets_of(
    ws: Workspace,
    spec: ProjectSpec,
    days: Sequence[ArtifactVersion],
    split: str,
    sources: Sequence[str] | None = None,
) -> pa.Table:
    """Return rows as `rows_of`, with the probabilities that a model is trained towards."""
    from fm_platform.training.targets import sharpened

    return sharpened(rows_of(ws, days, split, sources), spec.training.target_power)


def required(ws: Workspace, spec: ProjectSpec, kind: str, name: str, what: str) -> ArtifactVersion:
    """Return the version in use.

    Raises:
        MissingArtifactError: If there is none.
    """
    version = ws.ledger.latest(spec.name, kind, name)
    if version is None:
        raise MissingArtifactError(f"{what} is not built yet", next_step=f"fm run {spec.name}")
    return version


@contextmanager
def work_folder(ws: Workspace, recipe_hash: str) -> Iterator[Path]:
    """Give a folder that belongs to one recipe.

    It stays when the work is interrupted, so that the next try finds its checkpoints, and goes
    when the work is done.
    """
    branch = ws.ledger.branch  # main may be training the same thing
    folder = ws.home.work / (f"{recipe_hash[:32]}+{branch}" if branch else recipe_hash[:32])
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def step_reporter(log: Reporter, task: str) -> Callable[[StepInfo], None]:
    """Return a callback that reports each training step."""

    def on_step(step: StepInfo) -> None:
        log.progress(task, step.step, step.total, f"loss {step.loss:.3f}")

    return on_step


def save_plot(ws: Workspace, content_hash: str, png: bytes) -> None:
    """Keep the picture of an artifact beside the reports."""
    path = plot_path(ws, content_hash)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)


def plot_path(ws: Workspace, content_hash: str) -> Path:
    """Return where the picture of an artifact is kept."""
    return ws.home.reports / content_hash[:16] / "plot.png"


def load_plot(ws: Workspace, version: ArtifactVersion) -> bytes | None:
    """Return the picture of an artifact; None where it has none."""
    path = plot_path(ws, version.content_hash)
    return path.read_bytes() if path.is_file() else None
