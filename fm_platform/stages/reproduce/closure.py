"""Everything that a version was made from, also what its inputs name only by a summary.

Labeling from exemplars, the choice of a label model and cleaning look at days before: at their
gold rows, their votes on them, and the texts that were seen. Their recipes hold one hash of what
they found there, not a link to each day. All of it follows from the raw rows of those days.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from fm_platform.lineage import ArtifactVersion
from fm_platform.lineage.graph import upstream
from fm_platform.lineage.keep import recorded_window
from fm_platform.workspace import Workspace

_SUMMARIES = frozenset({"exemplars", "gold", "seen"})


def everything_under(ws: Workspace, target: ArtifactVersion) -> list[ArtifactVersion]:
    """Return `target` and all that it was made from, oldest first."""
    ledger = ws.ledger
    found = {v.id: v for v in ledger.get_many(upstream(ledger, [target.id]))}
    wanted: set[int] = set()
    for version in found.values():
        if version.partition and any(item.role in _SUMMARIES for item in version.inputs):
            wanted |= _raw_before(ws, version, version.created_at)
    found |= {v.id: v for v in ledger.get_many(sorted(wanted - found.keys()))}
    return sorted(found.values(), key=lambda version: version.id)


def _raw_before(ws: Workspace, version: ArtifactVersion, at: datetime) -> set[int]:
    """Return `raw` of the days that a version could look at, as in use when it was made."""
    last = str(version.partition)
    width = recorded_window(ws.ledger, version.project, at)
    first = "" if width is None else _days_before(last, width)
    held = ws.ledger.slots_in_use(version.project, at=at, named=("raw",))
    return {
        version_id
        for (kind, _, day), version_id in held.items()
        if kind == "raw" and day is not None and first <= day <= last
    }


def _days_before(day: str, count: int) -> str:
    try:
        return (date.fromisoformat(day) - timedelta(days=count)).isoformat()
    except (ValueError, OverflowError):  # no calendar day: every one counts
        return ""
