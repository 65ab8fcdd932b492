"""The champion and the one before it on the same gold rows of a new day; and the way back.

A fall of gold by itself says nothing of the champion: the rows may have become harder for both.
So a young champion is compared with its predecessor, row by row, on rows that neither was trained
on. Where it surely lost, over all days since, the alias goes back: no training, no waiting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from fm_platform.lineage import ArtifactVersion, Produced
from fm_platform.lineage.database import now
from fm_platform.lineage.ledger import Lease
from fm_platform.monitoring.impact import LEAST_GOLD, answered
from fm_platform.monitoring.records import Estimate
from fm_platform.stages import tables
from fm_platform.stages.common import summary
from fm_platform.stages.decision import previous_champion
from fm_platform.tracking.records import DecisionRecord
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.stages.alerts import Desk
    from fm_platform.stages.watch import Watcher

BY_ALERTS = "alerts"
"""Actor of an alias that was put back; it is not put back again."""
_Z = 1.645
_MODULES = ("fm_platform.stages.versus",)


def predecessor(ws: Workspace, project: str) -> ArtifactVersion | None:
    """Return the champion before the one in use; None where it is the first, or was put back."""
    moves = ws.ledger.alias_history(project, "champion")
    champion = ws.ledger.alias(project, "champion")
    if champion is None or not moves or moves[-1].actor == BY_ALERTS:
        return None
    return previous_champion(ws, project, champion)


def build_versus(
    watcher: Watcher, profile: ArtifactVersion, champion: ArtifactVersion, before: ArtifactVersion,
    name: str = "versus",
) -> ArtifactVersion:  # fmt: skip
    """Compare two champions on the gold rows of the profile of a day; build or reuse.

    Args:
        watcher: The builds of monitoring.
        profile: Of the day.
        champion: The one in use.
        before: Its predecessor.
        name: Of the artifact: a day may compare two pairs.
    """
    inputs = (
        profile.as_input("profile"), champion.as_input("champion"), before.as_input("predecessor"),
    )  # fmt: skip
    recipe = watcher.recipe("versus", name, profile.partition, inputs, {}, _MODULES)

    def compute(lease: Lease) -> Produced:
        right = []
        for model in (before, champion):  # the one in use comes last: its answers stay in use
            told = watcher.answered(profile, model)
            found = answered(told.sample, told.classes, told.judged)
            right.append(np.zeros(0) if found is None else found.judged.right)
        gains = right[1] - right[0]
        gains = gains[~np.isnan(gains)]
        numbers = {
            "gold_rows": len(gains), "gained": int(gains.sum()), "changed": int((gains**2).sum()),
        }  # fmt: skip
        content = watcher.ws.columns.put(_table(numbers))
        return Produced(content, {"column": content}, len(gains), 0, summary(numbers))

    return tables.build(watcher.ws, recipe, compute, watcher.run).version


def _table(numbers: dict[str, int]) -> Any:
    import pyarrow as pa

    return pa.table({name: [number] for name, number in sorted(numbers.items())})


def pooled(days: Iterable[ArtifactVersion]) -> Estimate | None:
    """Return the gain over the predecessor on all these days in points, with a 90 % interval.

    None below 30 gold rows.
    """
    told = [version.metrics["numbers"] for version in days]
    rows = sum(int(one["gold_rows"]) for one in told)
    if rows < LEAST_GOLD:
        return None
    mean = sum(int(one["gained"]) for one in told) / rows
    square = sum(int(one["changed"]) for one in told) / rows
    reach = _Z * float(np.sqrt(max(square - mean**2, 0.0) / rows))
    low, high = mean - reach, mean + reach
    return Estimate(
        round(100 * mean, 3), round(100 * low, 3), round(100 * high, 3), "gold", rows
    )  # fmt: skip


def compared(
    ws: Workspace, project: str, champion: ArtifactVersion, before: ArtifactVersion
) -> dict[str, ArtifactVersion]:
    """Return day -> the comparison of two models on its gold rows, for each day that has one."""
    wanted = {("champion", champion.content_hash), ("predecessor", before.content_hash)}
    return {
        str(version.partition): version
        for version in ws.ledger.all_latest(project, "versus", with_inputs=True)
        if wanted <= {(one.role, one.content_hash) for one in version.inputs}
    }


def take_back(desk: Desk) -> bool:
    """Move `champion` back where a young one surely lost on live gold; return whether it moved."""
    ledger, name = desk.ws.ledger, desk.name
    moves = ledger.alias_history(name, "champion")
    before = predecessor(desk.ws, name)
    champion = ledger.alias(name, "champion")
    if before is None or champion is None:
        return False
    here = moves[-1]
    if now() - here.set_at > timedelta(days=desk.policy.probation_days):
        return False
    days = list(compared(desk.ws, name, champion, before).values())
    gain = pooled(days)
    if gain is None or gain.high > -desk.policy.rollback_points:
        return False
    reason = (
        f"on {gain.rows} gold rows of {len(days)} days the champion before it was right "
        f"{-gain.points:.1f} points more often ({-gain.high:.1f} to {-gain.low:.1f})"
    )
    numbers = {**asdict(gain), "days": sorted(str(version.partition) for version in days)}
    ledger.set_alias(
        name, "champion", before.id, expected=here.version_id, reason=reason, actor=BY_ALERTS
    )
    ledger.record_decision(name, "rollback", before.id, numbers, reason, BY_ALERTS)
    tracker = desk.ws.tracker
    tracker.set_champion(name, before.recipe_hash, reason)
    tracker.log_decision(DecisionRecord(name, before.recipe_hash, "rollback", reason, numbers))
    tracker.log_decision(DecisionRecord(name, champion.recipe_hash, "taken_back", reason, numbers))
    body = {**numbers, "from": champion.id, "to": before.id}
    desk.note("-", "rolled_back", f"rolled_back:{here.number}", body, reason)
    return True
