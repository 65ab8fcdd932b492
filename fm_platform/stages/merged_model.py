"""`merged_model`: base + experts in one dense model that any Hugging Face user can load."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fm_platform.display import as_markdown
from fm_platform.errors import MissingArtifactError
from fm_platform.lineage import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.refs import version_name
from fm_platform.lineage.training_recipes import merged_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import (
    CheckResult,
    Reporter,
    StageResult,
    noted,
    stage_result,
    summary,
)
from fm_platform.stages.evidence import Evidence
from fm_platform.stages.models import required, targets_of, training_days, work_folder
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.merging.merge import MergeResult


def build_merged_model(
    ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
) -> StageResult:
    """Merge the experts and register the result as challenger.

    Raises:
        MissingArtifactError: If an expert is not built.
        MergeRefusedError: If the adapters cannot be merged without changing what they compute.
    """
    spec = project.spec
    adapters = [
        required(ws, spec, "adapter", expert.name, f"the adapter of expert {expert.name}")
        for expert in spec.experts
    ]
    start = required(ws, spec, "start", "shared_start", "the shared start of the experts")
    days = training_days(ws, spec)
    base = resolve_base_model(spec.base_model, project.directory)
    evidence = Evidence(ws, spec, str(days[-1].partition))
    recipe = merged_recipe(spec, adapters, start, days, base.content_hash, evidence.hash)

    def compute(lease: Lease) -> Produced:
        from fm_platform.merging.merge import merge_experts

        with work_folder(ws, recipe.hash) as folder:
            merged = merge_experts(
                base,
                {adapter.name: ws.model_path(adapter) for adapter in adapters},
                spec.merge,
                spec.taxonomy.classes,
                folder / "model",
                start=ws.model_path(start),
                dev=targets_of(ws, spec, days, "dev"),
                gold=evidence.rows(),
                sources={expert.name: expert.sources for expert in spec.experts},
                max_tokens=spec.training.max_tokens,
                threads=spec.training.threads,
                on_progress=lambda done, total: log.progress("merge weights", done, total),
            )
            card = model_card(ws, project, recipe, adapters, days, merged, base)
            (merged.directory / "README.md").write_text(card, "utf-8")
            ws.ledger.check_lease(lease)
            identity = {
                "project": spec.name, "name": "merged_model", "recipe_hash": recipe.hash,
            }  # fmt: skip
            ref = ws.models.publish(merged.directory, identity)
        return Produced(
            content_hash=ref.content_hash,
            location={"model": ref.content_hash},
            rows=None,
            bytes=ref.bytes,
            metrics=merge_metrics(merged, len(adapters), ref.bytes),
        )

    built = tables.build(ws, recipe, compute, run)
    version = built.version
    name_challenger(ws, version, run, lambda: _register(ws, project, version, run))
    return stage_result(built)


def merge_metrics(merged: MergeResult, experts: int, size: int) -> dict[str, Any]:
    """Return the metrics of a merged model of `size` bytes, with what is shown of the merge."""
    report = merged.report
    gap = float(report["max_logit_difference"])
    weights = dict(sorted(merged.weights.items()))
    told = (
        "the dense model computes what base + weighted adapters compute: "
        f"logits differ by {gap:.1e} at most."
    )
    shown = ("tasks", "methods", "similar", "pairs")
    return {
        **summary(
            {
                "experts": experts,
                "model_bytes": size,
                "sign_conflict_rate": float(report["sign_conflict_rate"]),
                "max_logit_difference": gap,
                "method": merged.method,
                **({"gold_rows": report["gold_rows"]} if "gold_rows" in report else {}),
            },
            {
                "weights": [
                    {"expert": name, "weight": round(weight, 6)} for name, weight in weights.items()
                ],
                **{name: report[name] for name in shown if report.get(name)},
                "layers": report["layers"][:24],
            },
            (CheckResult("merge_is_exact", True, told, {"max_logit_difference": gap}),),
        ),
        "weights": weights,
        "method": merged.method,
    }


def name_challenger(
    ws: Workspace,
    version: ArtifactVersion,
    run: RunContext,
    show: Callable[[], None] | None = None,
) -> None:
    """Name a merged model challenger where it is not, after `show`.

    The name comes last: a run that died before it is finished by the next one.
    """
    before = ws.ledger.alias(version.project, "challenger")
    if before is not None and before.id == version.id:
        return
    if show is not None:
        show()
    ws.ledger.set_alias(
        version.project,
        "challenger",
        version.id,
        expected=before.id if before else None,
        reason="merged",
        actor=run.asked_by,
    )


def model_card(
    ws: Workspace,
    project: LoadedProject,
    recipe: Recipe,
    adapters: list[ArtifactVersion],
    days: list[ArtifactVersion],
    merged: MergeResult,
    base: BaseModel,
) -> str:
    """Return the model card: made of what the ledger knows, and without a clock.

    The card is part of the model's content: the same recipe must give the same bytes, so it
    names the code by its fingerprint and the time by the last day of data.
    """
    from fm_platform.tracking.model_card import (
        CardExpert,
        CardFunction,
        CardInput,
        ModelCardInputs,
        base_card,
        languages,
        write_card,
    )

    spec = project.spec
    used = [day for day in days if day.rows]
    last = str(used[-1].partition)
    sources = {expert.name: expert.sources for expert in spec.experts}
    functions = _functions(ws, used[-1])
    own = base_card(base.directory)
    return write_card(
        ModelCardInputs(
            project=spec.name,
            description=spec.description or spec.name,
            classes=spec.taxonomy.classes,
            taxonomy_version=spec.taxonomy.version,
            base_model=spec.base_model.public,
            base_model_hash=base.content_hash,
            language=languages(spec, own) or ("und",),
            license=spec.base_model.license or str(own.get("license") or "unknown"),
            recipe_hash=recipe.hash,
            merge_method=merged.method,
            experts=tuple(
                CardExpert(a.name, sources[a.name], merged.weights[a.name], a.content_hash)
                for a in adapters
            ),
            inputs=tuple(
                CardInput(name=f"cleaned/{day.partition}", content_hash=day.content_hash,
                          rows=day.rows or 0)
                for day in used
            ),
            functions=tuple(
                CardFunction(f["function"], f["coverage"], f["dev_accuracy"], f["low"], f["high"])
                for f in functions
                if f["group"] == "all"
            ),
            git_commit=f"code fingerprint {recipe.code[:16]}",
            created_at=f"from data up to {last}",
            training_method=spec.training.method,
        )
    )  # fmt: skip


def _functions(ws: Workspace, cleaned: ArtifactVersion) -> list[dict[str, Any]]:
    """Return what the label model behind a cleaned day says of the labeling functions.

    It is found by what the day was made from. Another one may be in use by now that gives the same
    labels: a card that told of that could not be made again from what the model was made from.

    Raises:
        MissingArtifactError: If the ledger does not know it.
    """
    origin = cleaned
    for name in ("weak_labels", "label_model"):
        read = ws.ledger.inputs([origin.id]).get(origin.id, ())
        found = [item.version_id for item in read if item.role == name and item.version_id]
        if not found:
            raise MissingArtifactError(
                f"the ledger does not say which {name} {version_name(origin)} was made from",
                next_step="fm ledger rebuild --check",
            )
        origin = ws.ledger.get(found[0])
    told: list[dict[str, Any]] = origin.metrics["functions"]
    return told


def _register(
    ws: Workspace, project: LoadedProject, version: ArtifactVersion, run: RunContext
) -> None:
    """Register the version in MLflow."""
    from fm_platform.tracking.records import ModelRecord

    published = ws.tracker.log_merged_model(
        ModelRecord(
            **tables.tracked(version, run),
            params={f"weight {k}": v for k, v in version.metrics["weights"].items()},
            model_dir=str(ws.model_path(version)),
            description=as_markdown(project.spec.description, 2000),
        )
    )
    noted(ws.ledger, version, published.run_id)
