"""The choice of training settings, where a project declares `training: {method: auto}`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fm_platform.errors import MissingArtifactError
from fm_platform.hashing import fingerprint
from fm_platform.lineage import ArtifactVersion, Produced, RunContext, choosing, choosing_base
from fm_platform.lineage.ledger import Lease
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.base_choice import with_chosen_base
from fm_platform.stages.common import Reporter, StageResult, summary
from fm_platform.stages.coverage import require_coverage
from fm_platform.stages.evidence import gold_hash, gold_rows
from fm_platform.stages.models import targets_of, training_days, work_folder
from fm_platform.stages.subset import row_vectors, versions_of
from fm_platform.stages.window import window
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace


def build_choice(
    ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
) -> ArtifactVersion | None:
    """Return the choice in use, searching where it is due; None where nothing is to be chosen.

    The base of the project is one, or was chosen before.

    Raises:
        MissingArtifactError: If no day is cleaned.
        TrainingError: If there are no rows to train on or to judge by.
    """
    spec = project.spec
    if spec.training.method != "auto":
        return None
    days = training_days(ws, spec)
    last = str(days[-1].partition)
    day = choosing.choice_day(spec, last)
    held = window(ws, spec, "cleaned", "cleaned", day, spec.training.window_days)
    days = held if any(one.rows for one in held) else days
    base = resolve_base_model(spec.base_model, project.directory)
    heads = ws.ledger.all_latest(spec.name, kind="choice")
    before = choosing.before_of(heads, day)
    known = str(days[-1].partition)
    vectors = row_vectors(ws, project, run, log, days)
    judged_by = gold_hash(ws, spec, known) if spec.training.auto.judge == "gold" else None
    recipe = choosing.choice_recipe(
        spec, day, days, base.content_hash, before, versions_of(vectors), judged_by
    )

    def compute(_lease: Lease) -> Produced:
        from fm_platform.training.auto import choose_training

        require_coverage(ws, spec, days)
        train, dev = (targets_of(ws, spec, days, split) for split in ("train", "dev"))

        def tell(row: Any) -> None:
            done.append(row)
            note = "" if row["dev_loss"] is None else f"{row['method']}, loss {row['dev_loss']:.3f}"
            log.progress("ways to train", len(done), spec.training.auto.trials, note)

        done: list[Any] = []
        with work_folder(ws, recipe.hash) as folder:
            found = choose_training(
                train, dev, base, spec.training, spec.taxonomy.classes, folder,
                None if before is None else ws.ledger.get(before.id).location["chosen"], tell,
                vectors, gold_rows(ws, spec, known),
            )  # fmt: skip
        log.info(found.told)
        numbers: dict[str, int | float | str] = {
            "trials": len(found.trials), "left_out": found.left_out,
            "method": str(found.settings["method"]),
        }  # fmt: skip
        return Produced(
            fingerprint(found.settings),
            {"chosen": found.settings},
            metrics={**summary(numbers, {"trials": found.trials}), "told": found.told},
        )

    return tables.build(ws, recipe, compute, run).version


def last_choice(ws: Workspace, spec: ProjectSpec) -> ArtifactVersion | None:
    """Return the choice of the newest day, or None."""
    found = choosing.before_of(ws.ledger.all_latest(spec.name, kind="choice"), "~")
    return None if found is None else ws.ledger.get(found.id)


def settled(ws: Workspace, project: LoadedProject) -> LoadedProject:
    """Return a project with its base and training as they were chosen for the last cleaned day.

    Raises:
        MissingArtifactError: If it is to be chosen and was not yet.
    """
    project = with_chosen_base(ws, project)
    spec = project.spec
    if spec.training.method != "auto":
        return project
    day = choosing.choice_day(spec, str(training_days(ws, spec)[-1].partition))
    version = ws.ledger.latest(spec.name, "choice", choosing.NAME, day)
    if version is None:
        raise MissingArtifactError(
            "how to train is not chosen yet", next_step=f"fm run {spec.name}"
        )
    return replace(project, spec=choosing.settled(spec, version.location["chosen"]))


def with_choice(result: StageResult, choice: ArtifactVersion | None) -> StageResult:
    """Return a stage result that also says how its base, or its training, was chosen."""
    if choice is None:
        return result
    what, title = ("base_model", "base models") if choice.name == choosing_base.NAME else (
        "training", "ways to train"
    )  # fmt: skip
    metrics = {**result.metrics, what: str(choice.metrics["told"])}
    shown = {**result.tables, title: choice.metrics["tables"]["trials"]}
    return replace(result, metrics=metrics, tables=shown)
