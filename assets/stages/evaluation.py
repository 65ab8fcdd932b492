"""Asset `evaluation`: how good the merged model is, and whether it becomes champion."""

import dagster as dg

from assets.automation import daily_selection, follow_model_condition
from assets.catalog import asset, unpartitioned
from assets.keys import expert_keys, stage_key, start_key
from assets.resources import WorkspaceResource
from assets.steps import Materialized, build_one
from fm_platform.spec.load import LoadedProject


def evaluation_asset(project: LoadedProject) -> dg.AssetsDefinition:
    """Return the asset that measures on human labels and decides."""
    spec = project.spec

    @asset(
        **unpartitioned(spec, "evaluation", {"mlflow", "report"}, group="model"),
        deps=[
            stage_key(spec, "weak_labels"),
            start_key(spec),
            *expert_keys(spec),
            stage_key(spec, "merged_model"),
        ],
        automation_condition=follow_model_condition(daily_selection(spec)),
    )
    def evaluation(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> Materialized:
        """Measures on gold test rows, per source, with intervals and every baseline beside them.

        The gate makes the challenger champion only where it is not worse overall and on no
        source; the decision and its numbers are recorded. Predictions are kept as a table.
        """
        from fm_platform.stages.base_choice import as_made
        from fm_platform.stages.evaluation import build_evaluation
        from fm_platform.stages.silent import with_rows

        return build_one(
            context,
            workspace,
            project,
            lambda ws, run, log: build_evaluation(
                ws, with_rows(ws, as_made(ws, project)), run, log
            ),
        )

    return evaluation
