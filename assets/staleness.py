"""Fresh or stale, and why, as an asset check: Dagster's own view is blind below daily tables.

It warns and stops nothing: a stale artifact is not a wrong one.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from assets.keys import STAGES, UP_TO_DATE, keys_of_stages
from assets.metadata import table
from assets.resources import WorkspaceResource
from fm_platform.display import plain
from fm_platform.errors import FMError
from fm_platform.spec.load import LoadedProject

if TYPE_CHECKING:
    from fm_platform.lineage.status import StatusRow

_KINDS = {
    "raw": ("raw",),
    "weak_labels": ("embeddings", "votes", "label_model", "weak_labels"),
    "cleaned": ("shingles", "cleaned"),
    "shared_start": ("unit", "activations", "replay", "choice", "start"),
    "merged_model": ("merged_model",),
    "evaluation": ("evaluation",),
}
_SHOWN = 20


def staleness_check(project: LoadedProject) -> dg.AssetChecksDefinition:
    """Return the check that tells of every asset of a project whether it is what is wanted now."""
    spec = project.spec
    keys = keys_of_stages(spec, STAGES)

    @dg.multi_asset_check(
        name=f"{spec.name}_staleness",  # of the step; the job has the name of the check
        specs=[
            dg.AssetCheckSpec(
                UP_TO_DATE,
                asset=key,
                description="Made from what the project declares and holds now; if not, the path"
                " to the cause. It stops nothing.",
            )
            for key in keys
        ],
        can_subset=True,
        description="Compares the recipe of every artifact with the one that is wanted now.",
    )
    def up_to_date(
        context: dg.AssetCheckExecutionContext, workspace: WorkspaceResource
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {check.asset_key for check in context.selected_asset_check_keys}
        rows, problem = _status(project, workspace)
        for key in keys:
            if key in selected:
                yield _result(key, [row for row in rows if _belongs(row, key)], problem)

    return up_to_date


def _status(project: LoadedProject, resource: WorkspaceResource) -> tuple[list["StatusRow"], str]:
    """Return the status, or why it cannot be told: whatever it is, it stops no run."""
    from fm_platform.lineage.status import status
    from fm_platform.stages.probe import probe

    try:
        workspace = resource.open()
        return status(workspace.ledger, project.spec, probe(workspace, project)), ""
    except Exception as error:  # told as the verdict of every asset
        words = str(error) if isinstance(error, FMError) else f"{type(error).__name__}: {error}"
        return [], plain(words, 400)


def _belongs(row: "StatusRow", key: dg.AssetKey) -> bool:
    if key.path[1] == "adapters":
        return (row.kind, row.name) == ("adapter", key.path[2])
    return row.kind in _KINDS[key.path[1]]


def _result(key: dg.AssetKey, rows: Sequence["StatusRow"], problem: str) -> dg.AssetCheckResult:
    wrong = [row for row in rows if row.state != "fresh"]
    if problem:
        description = f"cannot be told: {problem}"
    elif not wrong:
        description = f"{len(rows)} of {len(rows)} artifacts are what is wanted now"
    else:
        first = wrong[0]
        day = f" {first.partition}" if first.partition else ""
        description = plain(
            f"{len(wrong)} of {len(rows)} artifacts are not what is wanted now; "
            f"{first.name}{day} is {first.state}: {first.why}",
            500,
        )
    metadata: dict[str, dg.MetadataValue] = {}
    if wrong:
        metadata["why"] = table(
            [
                {
                    "artifact": row.name,
                    "day": row.partition or "-",
                    "state": row.state,
                    "why": row.why,
                }
                for row in wrong[:_SHOWN]
            ]
        )
        metadata["not up to date"] = dg.MetadataValue.int(len(wrong))
    return dg.AssetCheckResult(
        passed=not wrong and not problem,
        asset_key=key,
        check_name=UP_TO_DATE,
        severity=dg.AssetCheckSeverity.WARN,
        description=description,
        metadata=metadata,
    )
