"""`adapters`: the shared start, and one LoRA adapter per declared expert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fm_platform.errors import FMError, TrainingError
from fm_platform.lineage import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.lineage.choosing import chosen_by
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.training_recipes import adapter_recipe, days_of, start_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.base_choice import build_base_choice, with_chosen_base
from fm_platform.stages.choice import build_choice, settled, with_choice
from fm_platform.stages.common import (
    CheckResult,
    Reporter,
    StageResult,
    noted,
    stage_result,
    summary,
)
from fm_platform.stages.continuing import recipe_of, start_days, train_on
from fm_platform.stages.coverage import require_coverage
from fm_platform.stages.models import (
    load_plot,
    required,
    save_plot,
    step_reporter,
    targets_of,
    training_days,
    work_folder,
)
from fm_platform.stages.subset import row_vectors, versions_of
from fm_platform.stages.variants import is_plain, train_adapter, train_start
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.training.train import TrainedExpert


def build_start(
    ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
) -> StageResult:
    """Train what all experts start from, on a balanced sample of all sources.

    Raises:
        MissingArtifactError: If no day is cleaned.
        CoverageError: If a declared class or slice has too few of them.
        TrainingError: If there are no rows, or the loss is not finite.
    """
    base_choice = build_base_choice(ws, project, run, log)
    choice = build_choice(ws, with_chosen_base(ws, project), run, log)
    project = settled(ws, project)
    spec = project.spec
    in_window = training_days(ws, spec)
    base = resolve_base_model(spec.base_model, project.directory)
    days = start_days(ws, spec, in_window)
    vectors = row_vectors(ws, project, run, log, days)
    recipe = start_recipe(spec, days, base.content_hash, versions_of(vectors))
    for chosen in (base_choice, choice):
        recipe = recipe if chosen is None else chosen_by(recipe, chosen)

    def compute(lease: Lease) -> Produced:
        require_coverage(ws, spec, in_window)
        from fm_platform.training.start import fit_start

        train, dev = (targets_of(ws, spec, days, split) for split in ("train", "dev"))
        _refuse_empty(train.num_rows, "shared_start", [s.name for s in spec.sources])
        with work_folder(ws, recipe.hash) as folder:
            if is_plain(spec):
                trained = fit_start(
                    train, dev, base, spec.training, spec.taxonomy.classes, folder,
                    step_reporter(log, "shared start"),
                )  # fmt: skip
            else:
                trained = train_start(
                    ws, project, run, log, days, train, dev, base, folder, vectors
                )
            return _publish(ws, recipe, lease, trained, train.num_rows)

    built = tables.build(ws, recipe, compute, run)
    result = stage_result(built, load_plot(ws, built.version))
    return with_choice(with_choice(result, base_choice), choice)


def build_adapter(
    ws: Workspace, project: LoadedProject, expert_name: str, run: RunContext, log: Reporter
) -> StageResult:
    """Train one expert on the cleaned rows of its sources.

    Raises:
        MissingArtifactError: If no day is cleaned or the shared start is not built.
        CoverageError: If a declared class or slice has too few of them.
        TrainingError: If there are no rows, or the loss is not finite.
    """
    project = settled(ws, project)
    spec = project.spec
    expert = next((e for e in spec.experts if e.name == expert_name), None)
    if expert is None:
        raise FMError(
            f"there is no expert {expert_name!r}", expected=", ".join(e.name for e in spec.experts)
        )
    days = training_days(ws, spec)
    start = required(ws, spec, "start", "shared_start", "the shared start of the experts")
    vectors = row_vectors(ws, project, run, log, days_of(expert, days))
    recipe, going_on = adapter_recipe(spec, expert, days, start, versions_of(vectors)), None
    if spec.training.continuing is not None:
        recipe, going_on = recipe_of(ws, spec, expert, days, start, run)

    def compute(lease: Lease) -> Produced:
        require_coverage(ws, spec, days)
        from fm_platform.training.train import train_expert

        base = resolve_base_model(spec.base_model, project.directory)
        with work_folder(ws, recipe.hash) as folder:
            if going_on is not None:
                own = folder / "continued"
                continued = train_on(ws, project, run, log, going_on, base, expert, own)
                if continued is not None:
                    seen = continued.metrics
                    rows = int(seen["new_rows"] or 0) + int(seen["replayed_rows"] or 0)
                    return _publish(ws, recipe, lease, continued, rows)
            train = targets_of(ws, spec, days, "train", expert.sources)
            dev = targets_of(ws, spec, days, "dev", expert.sources)
            _refuse_empty(train.num_rows, expert.name, list(expert.sources))
            if is_plain(spec):
                trained = train_expert(
                    train, dev, base, ws.model_path(start), spec.training, spec.taxonomy.classes,
                    folder, step_reporter(log, f"expert {expert.name}"),
                )  # fmt: skip
            else:
                trained = train_adapter(
                    ws, project, run, log, days, train, dev, base, expert, start, folder, vectors
                )
            return _publish(ws, recipe, lease, trained, train.num_rows)

    built = tables.build(ws, recipe, compute, run)
    if not built.reused:
        track(ws, project, built.version, run)
    return stage_result(built, load_plot(ws, built.version))


def _refuse_empty(rows: int, name: str, sources: list[str]) -> None:
    if rows == 0:
        raise TrainingError(
            f"{name} has no training rows",
            expected=f"train rows of {', '.join(sources)} in the training window, after cleaning",
            next_step="fm check tells whether rows come, fm clean review which rule removes them",
        )


def _publish(
    ws: Workspace, recipe: Recipe, lease: Lease, trained: TrainedExpert, rows: int
) -> Produced:
    from fm_platform.evaluation.plot import loss_curves_png

    ws.ledger.check_lease(lease)
    identity = {"project": recipe.project, "name": recipe.name, "recipe_hash": recipe.hash}
    ref = ws.models.publish(trained.directory, identity)
    save_plot(ws, ref.content_hash, loss_curves_png(named_losses(trained.history)))
    numbers: dict[str, Any] = {
        **{key: value for key, value in trained.metrics.items() if value is not None},
        "train_rows": rows,
        "adapter_bytes": ref.bytes,
    }
    return Produced(
        content_hash=ref.content_hash,
        location={"model": ref.content_hash},
        rows=rows,
        bytes=ref.bytes,
        metrics={
            **summary(
                numbers,
                checks=(
                    CheckResult(
                        "finite_loss",
                        True,
                        f"every loss and gradient of {recipe.name} was finite.",
                        {"final_train_loss": float(trained.metrics.get("train_loss") or 0.0)},
                    ),
                ),
            ),
            "history": trained.history,
        },
    )


def named_losses(history: list[dict[str, float | int]]) -> dict[str, list[tuple[float, float]]]:
    """Return the curves under the names that the picture shows."""
    shown = {"train_loss": "train", "dev_loss": "dev"}
    return {
        shown[name]: [(float(step), value) for step, value in points]
        for name, points in curves(history).items()
    }


def track(ws: Workspace, project: LoadedProject, version: ArtifactVersion, run: RunContext) -> None:
    """Log curves and parameters; a tracking server that is away never fails a training."""
    from fm_platform.tracking.records import TrainingRecord

    published = ws.tracker.log_training(
        TrainingRecord(
            **tables.tracked(version, run),
            params={k: v for k, v in version.config["training"].items() if v is not None},
            name=version.name,
            history=curves(version.metrics["history"]),
        )
    )
    noted(ws.ledger, version, published.run_id)


def curves(history: list[dict[str, float | int]]) -> dict[str, list[tuple[int, float]]]:
    """Return curve name -> (step, value) points."""
    found: dict[str, list[tuple[int, float]]] = {}
    for point in history:
        for name in ("train_loss", "dev_loss"):
            if name in point:
                found.setdefault(name, []).append((int(point["step"]), float(point[name])))
    return found
