"""Asset `merged_model`: one dense model out of all experts."""

import dagster as dg

from assets.automation import daily_selection, follow_model_condition
from assets.catalog import asset, unpartitioned
from assets.keys import expert_keys, start_key
from assets.resources import WorkspaceResource
from assets.steps import Materialized, build_one
from fm_platform.spec.load import LoadedProject


def merged_model_asset(project: LoadedProject) -> dg.AssetsDefinition:
    """Return the asset that merges the experts."""
    spec = project.spec

    @asset(
        **unpartitioned(spec, "merged_model", {"pytorch", "huggingface", "mlflow"}, group="model"),
        deps=[start_key(spec), *expert_keys(spec)],
        automation_condition=follow_model_condition(daily_selection(spec)),
    )
    def merged_model(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource
    ) -> Materialized:
        """Base model and experts as one model that `AutoModel…from_pretrained` loads.

        A folder with weights, tokenizer, labels, model card and signed manifest, registered in
        MLflow as `challenger`. Read by evaluation and by whoever serves the model.
        """
        from fm_platform.stages.choice import settled
        from fm_platform.stages.merged_model import build_merged_model
        from fm_platform.stages.silent import with_rows

        return build_one(
            context,
            workspace,
            project,
            lambda ws, run, log: build_merged_model(
                ws, with_rows(ws, settled(ws, project)), run, log
            ),
        )

    return merged_model
