"""The choice of the base model, where a project declares `base_model: {candidates: [...]}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fm_platform.errors import BaseModelError, MissingArtifactError
from fm_platform.lineage import ArtifactVersion, Produced, RunContext, choosing_base
from fm_platform.lineage.choosing import rhythm_day
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.marks import base_of
from fm_platform.spec.base_model import BaseModelSpec
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter, summary
from fm_platform.stages.coverage import require_coverage
from fm_platform.stages.models import targets_of, training_days, work_folder
from fm_platform.stages.window import window
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.training.choose_base import Candidate


def build_base_choice(
    ws: Workspace,
    project: LoadedProject,
    run: RunContext,
    log: Reporter,
    past: choosing_base.Past | None = None,
) -> ArtifactVersion | None:
    """Return the choice in use, searching where it is due; None where one base is declared.

    A candidate that cannot be read is told among the others, which compete without it. That is
    no reason to leave the base in use: where that one cannot be read, nothing is chosen.

    Args:
        ws: The workspace.
        project: The project.
        run: Who asks.
        log: Told of each candidate.
        past: How models of each base turned out; None: what the ledger knows.

    Raises:
        MissingArtifactError: If no day is cleaned.
        BaseModelError: If the base in use, or every candidate, cannot be read.
        TrainingError: If there are no rows to judge by, or no candidate can be judged.
    """
    spec = project.spec
    if not choosing_base.chooses(spec):
        return None
    days = training_days(ws, spec)
    day = rhythm_day(spec, str(days[-1].partition), spec.base_model.every)
    held = window(ws, spec, "cleaned", "cleaned", day, spec.training.window_days)
    days = held if any(one.rows for one in held) else days
    candidates = candidates_of(project)
    _require_readable(ws, spec, candidates)
    readable = {one.label: one.base for one in candidates if one.base is not None}
    contents = {label: base.content_hash for label, base in readable.items()}
    known = choosing_base.measured(ws.ledger, spec, day) if past is None else past
    recipe = choosing_base.base_choice_recipe(spec, day, days, contents, known)

    def compute(_lease: Lease) -> Produced:
        from fm_platform.training.choose_base import choose_base

        require_coverage(ws, spec, days)
        train, dev = (targets_of(ws, spec, days, split) for split in ("train", "dev"))
        done: set[str] = set()

        def tell(row: Any) -> None:
            done.add(row["candidate"])
            log.progress("base models", len(done), len(readable), row["candidate"])

        with work_folder(ws, recipe.hash) as folder:
            found = choose_base(
                train, dev, candidates, spec.base_model, spec.training, spec.taxonomy.classes,
                known, folder, spec.gate.constraints.size_mb, tell,
            )  # fmt: skip
        log.info(found.told)
        chosen = next(base for base in spec.base_model.candidates if base.label == found.label)
        numbers: dict[str, int | float | str] = {
            "candidates": len(candidates), "base_model": found.label,
        }  # fmt: skip
        return Produced(
            contents[found.label],
            {"chosen": chosen.model_dump(mode="json")},
            metrics={**summary(numbers, {"trials": found.trials}), "told": found.told},
        )

    return tables.build(ws, recipe, compute, run).version


def candidates_of(project: LoadedProject) -> list[Candidate]:
    """Return the declared candidates, each with its base or why it cannot be read."""
    from fm_platform.training.choose_base import Candidate, told_of

    found = []
    for declared in project.spec.base_model.candidates:
        try:
            base = resolve_base_model(declared, project.directory)
            found.append(Candidate(declared.label, base))
        except BaseModelError as error:
            found.append(Candidate(declared.label, None, told_of(error)))
    return found


def _require_readable(ws: Workspace, spec: ProjectSpec, candidates: Sequence[Candidate]) -> None:
    last = choosing_base.last_choice(ws.ledger, spec.name)
    used = None if last is None else BaseModelSpec.model_validate(last.location["chosen"]).label
    lost = [one for one in candidates if one.base is None]
    gone = next((one for one in lost if one.label == used), None)
    if gone is not None or len(lost) == len(candidates):
        raise BaseModelError(
            "the base model in use cannot be read: that is no reason to choose another one"
            if gone is not None
            else "no candidate for the base model can be read",
            found="; ".join(f"{one.label}: {one.why}" for one in ([gone] if gone else lost)),
            next_step="bring it back, or take it out of base_model.candidates",
        )


def with_chosen_base(ws: Workspace, project: LoadedProject) -> LoadedProject:
    """Return a project with the base that was chosen for the last cleaned day.

    Raises:
        MissingArtifactError: If it is to be chosen and was not yet.
    """
    spec = project.spec
    if not choosing_base.chooses(spec):
        return project
    last = str(training_days(ws, spec)[-1].partition)
    day = rhythm_day(spec, last, spec.base_model.every)
    version = ws.ledger.latest(spec.name, "choice", choosing_base.NAME, day)
    if version is None:
        raise MissingArtifactError(
            "the base model is not chosen yet", next_step=f"fm run {spec.name}"
        )
    return _settled(project, version.location["chosen"])


def as_made(ws: Workspace, project: LoadedProject) -> LoadedProject:
    """Return a project with the base that its models in use were made of.

    Raises:
        BaseModelError: If it is none of the candidates that can be read.
    """
    spec = project.spec
    start = ws.ledger.latest(spec.name, "start", "shared_start")
    if not choosing_base.chooses(spec) or start is None:
        return project
    made = base_of(ws.ledger, start)
    candidates = candidates_of(project)
    for declared, one in zip(spec.base_model.candidates, candidates, strict=True):
        if one.base is not None and one.base.content_hash == made:
            return _settled(project, declared.model_dump(mode="json"))
    raise BaseModelError(
        "the base of the models in use is no candidate that can be read",
        expected=f"content {str(made)[:12]}",
        found="; ".join(f"{one.label}: {one.why or 'another content'}" for one in candidates),
        next_step=f"bring it back, or train again: fm run {spec.name}",
    )


def _settled(project: LoadedProject, chosen: Mapping[str, Any]) -> LoadedProject:
    """Return a project with a chosen base; rows are embedded by the one that labels them."""
    spec = project.spec
    return replace(project, spec=choosing_base.settled(spec, chosen), embeds=spec.base_model)
