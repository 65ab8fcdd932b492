"""`merged_model`: base + experts in one dense model that any Hugging Face user can load."""

from __future__ import annotations

from typing import Any

from fm_platform.lineage import ArtifactVersion, Produced, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import merged_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import CheckResult, Reporter, StageResult, stage_result, summary
from fm_platform.stages.models import required, rows_of, training_days, work_folder
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace


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
    recipe = merged_recipe(spec, adapters, start, days, base.content_hash)

    def compute(lease: Lease) -> Produced:
        from fm_platform.merging.merge import merge_experts

        with work_folder(ws, recipe.hash) as folder:
            merged = merge_experts(
                base,
                {adapter.name: ws.model_path(adapter) for adapter in adapters},
                spec.merge,
                spec.taxonomy.classes,
                folder / "model",
                dev=rows_of(ws, days, "dev"),
                max_tokens=spec.training.max_tokens,
                on_progress=lambda done, total: log.progress("merge weights", done, total),
            )
            card = model_card(project, adapters, days, merged.weights)
            (merged.directory / "README.md").write_text(card, "utf-8")
            ws.ledger.check_lease(lease)
            identity = {
                "project": spec.name, "name": "merged_model", "recipe_hash": recipe.hash,
            }  # fmt: skip
            ref = ws.models.publish(merged.directory, identity)
        weights = [
            {"expert": name, "weight": round(weight, 6)}
            for name, weight in sorted(merged.weights.items())
        ]
        gap = float(merged.report["max_abs_logit_difference"])
        return Produced(
            content_hash=ref.content_hash,
            location={"model": ref.content_hash},
            rows=None,
            bytes=ref.bytes,
            metrics={
                **summary(
                    {
                        "experts": len(adapters),
                        "model_bytes": ref.bytes,
                        "sign_conflict_rate": float(merged.report["sign_conflict_rate"]),
                        "max_abs_logit_difference": gap,
                    },
                    {"weights": weights, "layers": merged.report["layers"][:24]},
                    (
                        CheckResult(
                            "merge_is_exact",
                            True,
                            "the dense model computes what base + weighted adapters compute: "
                            f"logits differ by {gap:.1e} at most.",
                            {"max_abs_logit_difference": gap},
                        ),
                    ),
                ),
                "weights": dict(sorted(merged.weights.items())),
            },
        )

    built = tables.build(ws, recipe, compute, run)
    if not built.reused:
        _register(ws, project, built.version, run)
    return stage_result(built)


def model_card(
    project: LoadedProject,
    adapters: list[ArtifactVersion],
    days: list[ArtifactVersion],
    weights: dict[str, float],
) -> str:
    """Return the model card: made of what the ledger knows, without a clock."""
    from fm_platform.tracking.model_card import model_card as make

    spec = project.spec
    facts: dict[str, Any] = {
        "name": spec.name,
        "description": spec.description,
        "classes": list(spec.taxonomy.classes),
        "base_model": spec.base_model.location,
        "method": spec.merge.method,
        "experts": [
            {
                "name": adapter.name,
                "content_hash": adapter.content_hash,
                "rows": adapter.rows,
                "weight": weights[adapter.name],
            }
            for adapter in adapters
        ],
        "data": [
            {"day": day.partition, "content_hash": day.content_hash, "rows": day.rows}
            for day in days
            if day.rows
        ],
        "training": spec.training.model_dump(mode="json"),
    }
    return make(facts)


def _register(
    ws: Workspace, project: LoadedProject, version: ArtifactVersion, run: RunContext
) -> None:
    """Name the version challenger, in the ledger and in MLflow."""
    name = project.spec.name
    before = ws.ledger.alias(name, "challenger")
    ws.ledger.set_alias(
        name,
        "challenger",
        version.id,
        expected=before.id if before else None,
        reason="merged",
        actor=run.asked_by,
    )
    ws.tracker.log_merged_model(
        project=name,
        model_dir=ws.model_path(version),
        tags=tables.tracking_tags(version, run),
        inputs={f"{i.name}:{i.partition or i.part or ''}": i.content_hash for i in version.inputs},
    )
