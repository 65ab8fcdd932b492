"""Asset `cleaned`: what experts are trained on."""

import dagster as dg

from assets.catalog import asset, daily
from assets.keys import stage_key
from assets.resources import WorkspaceResource
from assets.steps import Materialized, build_days
from fm_platform.spec.load import LoadedProject


def cleaned_asset(project: LoadedProject) -> dg.AssetsDefinition:
    """Return the asset that applies the cleaning rules."""
    deps = [stage_key(project.spec, "weak_labels")]

    @asset(**daily(project.spec, "cleaned", {"deltalake", "table"}), deps=deps)
    def cleaned(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> Materialized:
        """Train and dev rows of one day that passed every cleaning rule, in declared order.

        Test rows never get here. Everything removed or changed is in `quarantine` with the rule,
        the reason, and the value before and after. Read by the adapters.
        """
        from fm_platform.stages.cleaned import build_cleaned

        return build_days(context, workspace, project, build_cleaned)

    return cleaned
