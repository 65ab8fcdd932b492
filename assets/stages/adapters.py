"""Assets `shared_start` and `adapters/<expert>`: what is trained."""

import dagster as dg

from assets.automation import daily_selection, retrain_condition
from assets.catalog import asset, unpartitioned
from assets.keys import stage_key, start_key
from assets.resources import WorkspaceResource
from assets.steps import Materialized, build_one
from fm_platform.spec.load import LoadedProject


def start_asset(project: LoadedProject) -> dg.AssetsDefinition:
    """Return the asset that fits the label head all experts begin with."""
    spec = project.spec

    @asset(
        **unpartitioned(spec, "adapters", {"pytorch"}, group="adapters", name="shared_start"),
        deps=[stage_key(spec, "cleaned")],
        automation_condition=retrain_condition(daily_selection(spec)),
    )
    def shared_start(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource
    ) -> Materialized:
        """Label head fitted on the frozen base model, the common start of all experts.

        Experts that begin at one point stay close enough to be merged. Read by the adapters.
        """
        from fm_platform.stages.adapters import build_start

        return build_one(
            context, workspace, project, lambda ws, run, log: build_start(ws, project, run, log)
        )

    return shared_start


def adapter_asset(project: LoadedProject, expert: str) -> dg.AssetsDefinition:
    """Return the asset of one expert."""
    spec = project.spec
    sources = next(part.sources for part in spec.experts if part.name == expert)

    @asset(
        **unpartitioned(
            spec, "adapters", {"pytorch", "huggingface"}, group="adapters", name=expert
        ),
        deps=[stage_key(spec, "cleaned"), start_key(spec)],
        automation_condition=retrain_condition(daily_selection(spec)),
        description=(
            f"Expert trained ({spec.training.method}) on the cleaned rows of"
            f" {', '.join(sources)}, with the weak labels' probabilities as targets.\n\nA folder"
            " of safetensors with a signed manifest. Read by merging, and by evaluation as a"
            " comparison. While its sources have no rows to train on it is left out."
        ),
    )
    def adapter(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> Materialized:
        from fm_platform.stages.adapters import build_adapter
        from fm_platform.stages.silent import why_left_out

        return build_one(
            context,
            workspace,
            project,
            lambda ws, run, log: build_adapter(ws, project, expert, run, log),
            lambda ws: why_left_out(ws, project, expert),
        )

    return adapter
