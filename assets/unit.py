"""Asset check `unit_set`: whether the hand-made rows still come out as their writer expects.

It is the first thing that a run over days meets after the rows came: where it fails, nothing is
labeled, cleaned or trained. A run that only trains asks the same before its first step.
"""

import dagster as dg

from assets.keys import stage_key
from assets.metadata import scalar, table
from assets.reporting import StepReporter
from assets.resources import WorkspaceResource
from assets.steps import asked_by
from fm_platform.errors import FMError
from fm_platform.spec.load import LoadedProject


def unit_checks(project: LoadedProject) -> list[dg.AssetChecksDefinition]:
    """Return the check of a project that declares `unit`; none for others."""
    spec = project.spec
    if spec.unit is None:
        return []
    raw = stage_key(spec, "raw")

    @dg.asset_check(
        asset=raw,
        name="unit_set",
        blocking=True,
        description="A few rows written by hand, labeled by the functions, cleaned, trained on and"
        " merged, come out as expected. Tried on every change of functions, classes or settings.",
    )
    def unit_set(
        context: dg.AssetCheckExecutionContext, workspace: WorkspaceResource
    ) -> dg.AssetCheckResult:
        from fm_platform.stages.unit import build_unit
        from fm_platform.workspace import run_context

        run = run_context(asked_by(context.run.tags), context.run.run_id)
        try:
            result = build_unit(workspace.open(), project, run, StepReporter(context.log, raw))
        except FMError as error:
            if error.retryable:
                raise
            return dg.AssetCheckResult(passed=False, description=str(error))
        if result is None:
            return dg.AssetCheckResult(passed=True, description="nothing is declared")
        wrong = [check for check in result.checks if not check.passed]
        told = wrong or result.checks
        return dg.AssetCheckResult(
            passed=not wrong,
            description="; ".join(f"{check.name}: {check.description}" for check in told),
            metadata={
                **{title: table(rows) for title, rows in result.tables.items()},
                "reused": dg.MetadataValue.bool(result.reused),
                "reason": dg.MetadataValue.text(result.reason),
                **{name: scalar(value) for name, value in result.metrics.items()},
            },
        )

    return [unit_set]
