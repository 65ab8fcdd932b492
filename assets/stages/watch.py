"""Asset `watch`: what of a day differs from what the champion was trained on."""

import dagster as dg

from assets.catalog import asset, daily
from assets.keys import WATCH, stage_key
from assets.resources import WorkspaceResource
from assets.steps import Materialized, build_days
from fm_platform.spec.load import LoadedProject


def watch_asset(project: LoadedProject) -> dg.AssetsDefinition:
    """Return the asset that compares each new day; nothing is built from it."""
    deps = [stage_key(project.spec, "cleaned")]

    @asset(**daily(project.spec, WATCH, {"report"}), deps=deps)
    def watch(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> Materialized:
        """Profile of one day, and its alerts: cause, from what to what, cost, repairs.

        Columns, text, embeddings, votes, labels and the champion's answers are compared with what
        the champion was trained on. The check `drift` warns in words; it stops nothing.
        """
        from fm_platform.stages.watch import build_watch

        return build_days(context, workspace, project, build_watch)

    return watch
