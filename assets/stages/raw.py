"""Asset `raw`: what arrived on a day."""

import dagster as dg

from assets.catalog import asset, daily
from assets.resources import WorkspaceResource
from assets.steps import Materialized, build_days
from fm_platform.spec.load import LoadedProject


def raw_asset(project: LoadedProject) -> dg.AssetsDefinition:
    """Return the asset that brings rows in."""

    @asset(**daily(project.spec, "raw", {"deltalake", "table"}))
    def raw(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> Materialized:
        """Rows of all sources as they arrived on one day, one row a text.

        Every row has a stable id and a side (train, dev or test) that never changes. Rows that
        break the contract are in `quarantine` with the rule and the value; human labels are in
        `gold`, apart from the text. Read by the labeling functions.
        """
        from fm_platform.stages.raw import build_raw

        return build_days(context, workspace, project, build_raw)

    return raw
