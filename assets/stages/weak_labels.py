"""Asset `weak_labels`: what the labeling functions say."""

import dagster as dg

from assets.catalog import asset, daily
from assets.keys import stage_key
from assets.resources import WorkspaceResource
from assets.steps import Materialized, build_days
from fm_platform.spec.load import LoadedProject


def weak_labels_asset(project: LoadedProject) -> dg.AssetsDefinition:
    """Return the asset that applies labeling functions and fits the label model."""
    deps = [stage_key(project.spec, "raw")]

    @asset(**daily(project.spec, "weak_labels", {"deltalake", "table"}), deps=deps)
    def weak_labels(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource
    ) -> Materialized:
        """Rows of one day with the vote of every labeling function and a probability per class.

        Majority vote and the label model are both fitted; the one that does better on dev gives
        the label. A function that raises on a row abstains there and is counted. Read by cleaning,
        and by evaluation for its comparison rows.
        """
        from fm_platform.stages.label_days import build_labeled_day

        return build_days(context, workspace, project, build_labeled_day)

    return weak_labels
