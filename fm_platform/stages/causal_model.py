"""`merged_model` of a causal project: base + experts in one dense model that generates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fm_platform.lineage import ArtifactVersion, Produced, RunContext
from fm_platform.lineage.causal_recipes import chooses, merged_recipe, sources_of
from fm_platform.lineage.ledger import Lease
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.causal import base_of, chat_of, encoded, of_split, pairs_of, raw_days
from fm_platform.stages.common import Reporter, StageResult, stage_result
from fm_platform.stages.merged_model import merge_metrics, name_challenger
from fm_platform.stages.models import required, work_folder
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.training.data import Encoded
    from fm_platform.training.instruct import Dialogue


def build_causal_model(
    ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
) -> StageResult:
    """Merge the experts and name the result challenger.

    Raises:
        MissingArtifactError: If an expert is not built.
        MergeRefusedError: If the adapters cannot be merged without changing what they compute.
    """
    spec = project.spec
    adapters = [
        required(ws, spec, "adapter", expert.name, f"the adapter of expert {expert.name}")
        for expert in spec.experts
    ]
    days, base = raw_days(ws, spec), base_of(project)
    recipe = merged_recipe(spec, adapters, days, base.content_hash, chat_of(project))

    def compute(lease: Lease) -> Produced:
        from fm_platform.merging.causal import merge_causal
        from fm_platform.training.instruct import Dialogue

        dialogue = Dialogue.of(base.tokenizer(), spec.instruction)
        with work_folder(ws, recipe.hash) as folder:
            merged = merge_causal(
                base,
                {adapter.name: ws.model_path(adapter) for adapter in adapters},
                spec.merge,
                folder / "model",
                loss=_judge(ws, project, days, dialogue) if chooses(spec) else None,
                seed=spec.training.seed,
                threads=spec.training.threads,
                on_progress=lambda done, total: log.progress("merge weights", done, total),
            )
            dialogue.save(merged.directory)
            ws.ledger.check_lease(lease)
            identity = {
                "project": spec.name, "name": "merged_model", "recipe_hash": recipe.hash,
            }  # fmt: skip
            ref = ws.models.publish(merged.directory, identity)
        return Produced(
            content_hash=ref.content_hash,
            location={"model": ref.content_hash},
            bytes=ref.bytes,
            metrics=merge_metrics(merged, len(adapters), ref.bytes),
        )

    built = tables.build(ws, recipe, compute, run)
    name_challenger(ws, built.version, run)
    return stage_result(built)


def _judge(
    ws: Workspace, project: LoadedProject, days: list[ArtifactVersion], dialogue: Dialogue
) -> Any:
    """Return model -> the mean over sources of the loss on their dev pairs; None without any."""
    import numpy as np

    from fm_platform.training.answering import losses_of
    from fm_platform.training.data import balanced_sample, take

    spec = project.spec
    rows = of_split(pairs_of(ws, spec, days, sources_of(spec)), "dev")
    pairs: Encoded = encoded(dialogue, spec, rows)[0]
    few = balanced_sample(
        pairs.sources, spec.merge.search_rows_per_source, np.random.default_rng(0)
    )
    pairs = take(pairs, few)
    if not len(pairs):
        return None
    sources = np.array(pairs.sources)

    def loss(model: Any) -> float:
        each = losses_of(model, pairs, dialogue.tokenizer.pad_token_id or 0)
        return float(np.mean([each[sources == name].mean() for name in sorted(set(sources))]))

    return loss
