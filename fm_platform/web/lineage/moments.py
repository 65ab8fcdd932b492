"""The moments of a history: where its time slider stops, and what happened at each stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from fm_platform.lineage import schema
from fm_platform.lineage.ledger import Ledger
from fm_platform.stages.diff.causes import stage

MOST = 400
"""So many stops at most: a year of days and some more; a slider has about so many pixels."""
_MARKS = 20
_FEW = 24
_SHORTEST = 2_000


@dataclass(frozen=True)
class Mark:
    """One thing that a person or a gate did: an alias moved, a decision was taken."""

    at: datetime
    what: str
    why: str
    version_id: int | None


@dataclass
class Moment:
    """A stop of the slider: all that happened since the stop before it, up to `at`.

    Attributes:
        at: When the last of it happened.
        first: When the first of it happened.
        kinds: Kind -> versions put in use.
        marks: Alias moves and decisions, oldest first.
    """

    at: datetime
    first: datetime
    kinds: Counter[str] = field(default_factory=Counter)
    marks: list[Mark] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "at": self.at.isoformat(),
            "first": self.first.isoformat(),
            "kinds": dict(self.kinds),
            "marks": [
                {
                    "at": mark.at.isoformat(), "what": mark.what, "why": mark.why,
                    "version_id": mark.version_id,
                }
                for mark in self.marks[-_MARKS:]
            ],
        }  # fmt: skip


def moments(ledger: Ledger, project: str, most: int = MOST) -> list[Moment]:
    """Return the moments of a project, oldest first, at most `most`.

    Where there are more events than that, the longest pauses between them separate the moments:
    what a run of a night did becomes one stop.
    """
    events = _events(ledger, project)
    found: list[Moment] = []
    ends = _ends([at for at, _ in events], most)
    for number, (at, event) in enumerate(events):
        if number == 0 or number - 1 in ends:
            found.append(Moment(at, at))
        moment = found[-1]
        moment.at = at
        if isinstance(event, Mark):
            moment.marks.append(event)
        else:
            moment.kinds[event] += 1
    return found


def extent(ledger: Ledger, project: str) -> dict[str, Any]:
    """Return every day and every artifact that a project ever had.

    The page leaves room for all of them, so that nothing moves while a person goes through time.
    """
    u, here = schema.uses.c, _here(ledger, project)
    days = sa.select(u.partition).distinct().where(here, u.partition != "")
    named = (
        sa.select(u.kind, u.name, sa.func.max(u.partition) != "")
        .where(here)
        .group_by(u.kind, u.name)
    )
    with ledger.reading() as connection:
        artifacts = [
            {"kind": kind, "name": name, "daily": bool(daily)}
            for kind, name, daily in connection.execute(named)
        ]
        return {
            "days": sorted(connection.scalars(days)),
            "artifacts": sorted(artifacts, key=lambda a: (stage(a["kind"]), a["kind"], a["name"])),
        }


def stamp(ledger: Ledger) -> str:
    """Return what changes whenever something is added to the ledger."""
    tables = (
        schema.versions, schema.uses, schema.aliases, schema.decisions, schema.branches,
        schema.alert_events,
    )  # fmt: skip
    highest = [sa.select(sa.func.max(t.c.id)).scalar_subquery() for t in tables]
    ended = sa.select(sa.func.count(schema.branches.c.deleted_at)).scalar_subquery()
    with ledger.reading() as connection:
        return "-".join(
            str(number or 0) for number in connection.execute(sa.select(*highest, ended)).one()
        )


def _events(ledger: Ledger, project: str) -> list[tuple[datetime, str | Mark]]:
    """Return (time, kind of what was put in use, or a mark), oldest first."""
    u = schema.uses.c
    with ledger.reading() as connection:
        used = connection.execute(sa.select(u.since, u.kind).where(_here(ledger, project))).all()
    events: list[tuple[datetime, str | Mark]] = [(row[0], row[1]) for row in used]
    for alias in ledger.alias_names(project):
        for move in ledger.alias_history(project, alias):
            mark = Mark(move.set_at, f"alias {alias}", move.reason, move.version_id)
            events.append((move.set_at, mark))
    for taken in ledger.decisions(project):
        at = taken["decided_at"]
        events.append((at, Mark(at, taken["kind"], taken["reason"], taken["version_id"])))
    for branch in ledger.branches():
        if branch.project == project and ledger.branch in (None, branch.name):
            why = f"began from {branch.at:%Y-%m-%d %H:%M:%S} UTC"
            mark = Mark(branch.created_at, f"branch {branch.name}", why, None)
            events.append((branch.created_at, mark))
    return sorted(events, key=lambda event: event[0])


def _here(ledger: Ledger, project: str) -> sa.ColumnElement[bool]:
    """Return what selects the uses of this universe: before a branch parted, those of main."""
    u = schema.uses.c
    if ledger.branch is None:
        return u.project == project
    parted = ledger.branch_of(project, ledger.branch)
    return sa.or_(
        (u.project == project) & (u.since < parted.at),
        (u.project == parted.namespace) & (u.since >= parted.at),
    )


def _ends(times: Sequence[datetime], most: int) -> set[int]:
    """Return the indices after which a moment ends: before the longest pauses.

    Events of one instant are never separated, nor those that follow at once as the whole history
    goes, unless hardly a moment were left. Among equal pauses those are taken that lie most
    evenly: a history without pauses is cut into equal pieces.
    """
    pauses = [
        (round((after - before).total_seconds(), 3), number)
        for number, (before, after) in enumerate(pairwise(times))
        if after > before
    ]
    if pauses:
        shortest = (times[-1] - times[0]).total_seconds() / _SHORTEST
        long = [pause for pause in pauses if pause[0] >= shortest]
        pauses = long if len(long) >= min(_FEW, len(pauses)) else pauses
    if len(pauses) < most:
        return {number for _, number in pauses}
    bits = max(len(times).bit_length(), 1)
    pauses.sort(key=lambda pause: (-pause[0], f"{pause[1]:0{bits}b}"[::-1]))
    return {number for _, number in pauses[: most - 1]}
