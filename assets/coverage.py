"""Asset check `coverage`: whether training will find enough rows of every class and slice.

It warns: days go on while rows are still too few; it is training that refuses.
"""

import dagster as dg

from assets.keys import stage_key
from assets.metadata import table
from assets.resources import WorkspaceResource
from fm_platform.spec.load import LoadedProject


def coverage_checks(project: LoadedProject) -> list[dg.AssetChecksDefinition]:
    """Return the check of a project that declares `coverage`; none for others."""
    spec = project.spec
    if spec.coverage is None:
        return []

    @dg.asset_check(
        asset=stage_key(spec, "cleaned"),
        name="coverage",
        description="Every class has the declared effective rows in the window of training, over"
        " all and in each declared slice. Below it training refuses.",
    )
    def coverage(workspace: WorkspaceResource) -> dg.AssetCheckResult:
        from fm_platform.stages.coverage import coverage_check
        from fm_platform.stages.models import training_days

        ws = workspace.open()
        found = coverage_check(ws, spec, training_days(ws, spec))
        return dg.AssetCheckResult(
            passed=found.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=found.description,
            metadata={"coverage": table(found.metadata["coverage"])},
        )

    return [coverage]
