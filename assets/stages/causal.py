"""Assets of a causal project: `adapters/<expert>`, `merged_model` and `evaluation` of raw pairs."""

import dagster as dg

from assets.automation import daily_selection, follow_model_condition, retrain_condition
from assets.catalog import asset, code_version, unpartitioned
from assets.keys import expert_keys, stage_key
from assets.resources import WorkspaceResource
from assets.steps import Materialized, build_one
from fm_platform.spec.load import LoadedProject


def causal_assets(project: LoadedProject) -> list[dg.AssetsDefinition]:
    """Return what lies below `raw` in a causal project."""
    return [
        *(_adapter(project, expert.name) for expert in project.spec.experts),
        _merged_model(project),
        _evaluation(project),
    ]


def _adapter(project: LoadedProject, expert: str) -> dg.AssetsDefinition:
    spec = project.spec
    sources = next(part.sources for part in spec.experts if part.name == expert)
    common = unpartitioned(
        spec, "adapters", {"pytorch", "huggingface"}, group="adapters", name=expert
    )

    @asset(
        **common | {"code_version": code_version("fm_platform.stages.causal")},
        deps=[stage_key(spec, "raw")],
        automation_condition=retrain_condition(daily_selection(spec)),
        description=(
            f"LoRA adapter of a causal model, trained on the pairs of {', '.join(sources)}; the"
            " loss is that of the answers alone.\n\nPairs that cannot be used are in `quarantine`"
            " with the reason. Read by merging, and by evaluation as a comparison."
        ),
    )
    def adapter(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> Materialized:
        from fm_platform.stages.causal import build_causal_adapter
        from fm_platform.stages.silent import why_left_out

        return build_one(
            context,
            workspace,
            project,
            lambda ws, run, log: build_causal_adapter(ws, project, expert, run, log),
            lambda ws: why_left_out(ws, project, expert),
        )

    return adapter


def _merged_model(project: LoadedProject) -> dg.AssetsDefinition:
    spec = project.spec
    common = unpartitioned(spec, "merged_model", {"pytorch", "huggingface"}, group="model")

    @asset(
        **common | {"code_version": code_version("fm_platform.stages.causal_model")},
        deps=expert_keys(spec),
        automation_condition=follow_model_condition(daily_selection(spec)),
    )
    def merged_model(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource
    ) -> Materialized:
        """Base model and experts as one causal model that `from_pretrained` loads.

        A folder with weights, tokenizer, how it is asked, and a signed manifest; `challenger`
        until evaluation decides. Read by evaluation and by whoever serves the model.
        """
        from fm_platform.stages.causal_model import build_causal_model
        from fm_platform.stages.silent import with_rows

        return build_one(
            context,
            workspace,
            project,
            lambda ws, run, log: build_causal_model(ws, with_rows(ws, project), run, log),
        )

    return merged_model


def _evaluation(project: LoadedProject) -> dg.AssetsDefinition:
    spec = project.spec
    common = unpartitioned(spec, "evaluation", {"report"}, group="model")

    @asset(
        **common | {"code_version": code_version("fm_platform.stages.causal_evaluation")},
        deps=[*expert_keys(spec), stage_key(spec, "merged_model")],
        automation_condition=follow_model_condition(daily_selection(spec)),
    )
    def evaluation(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> Materialized:
        """Measures on test pairs, per source, with intervals, beside the base and the experts.

        The gate makes the challenger champion only where its answers are not less likely overall
        and on no source; the decision and its numbers are recorded.
        """
        from fm_platform.stages.causal_evaluation import build_causal_evaluation
        from fm_platform.stages.silent import with_rows

        return build_one(
            context,
            workspace,
            project,
            lambda ws, run, log: build_causal_evaluation(ws, with_rows(ws, project), run, log),
        )

    return evaluation
