"""What happened to alerts, in order: opened, asked, running, repaired, accepted, ...

Each step is one record that is never rewritten. `once` names it: the same step asked for again, by
a second tick or after a crash, is no second record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from fm_platform.lineage import schema
from fm_platform.lineage.aliases import Aliases
from fm_platform.lineage.database import now
from fm_platform.lineage.records import ArtifactVersion


@dataclass(frozen=True)
class AlertEvent:
    """One step in the life of an alert.

    Attributes:
        id: Rises with every record, whatever the clock says.
        alert: Id of the alert; `-` for what concerns all of them.
        what: `opened`, `asked`, `running`, ...: see `fm_platform.monitoring.life`.
        body: The values that belong to it.
        reason: Why, in words.
        actor: Who or what.
        at: When, UTC.
    """

    id: int
    alert: str
    what: str
    body: Mapping[str, Any]
    reason: str
    actor: str
    at: datetime


class AlertEvents(Aliases):
    """The lives of alerts."""

    if TYPE_CHECKING:  # the ledger reads versions

        def _many(
            self, query: sa.Select[Any], *, with_inputs: bool = False
        ) -> list[ArtifactVersion]: ...

    def record_alert_event(
        self,
        project: str,
        alert: str,
        what: str,
        *,
        once: str,
        body: Mapping[str, Any] | None = None,
        reason: str = "",
        actor: str = "sensor",
    ) -> bool:
        """Record a step; return False where it is recorded already.

        Args:
            project: Whose alert.
            alert: Its id.
            what: The step.
            once: With project and alert the name of the step, e.g. `opened` or `seen:2026-01-02`.
            body: JSON values that belong to it.
            reason: Why.
            actor: Who.
        """
        e, scope = schema.alert_events.c, self.scope(project)
        row = {
            "project": scope, "alert": alert, "what": what, "once": once,
            "body": dict(body or {}), "reason": reason, "actor": actor, "at": now(),
        }  # fmt: skip
        there = sa.select(e.id).where(e.project == scope, e.alert == alert, e.once == once)
        with self._write() as connection:
            if connection.scalar(there) is not None:
                return False
            connection.execute(schema.alert_events.insert(), row)
        return True

    def alert_events(
        self, project: str, alert: str | None = None, *, after: int = 0
    ) -> list[AlertEvent]:
        """Return the steps of one alert, or of all of a project, oldest first."""
        e = schema.alert_events.c
        query = (
            sa.select(e.id, e.alert, e.what, e.body, e.reason, e.actor, e.at)
            .where(e.project == self.scope(project), e.id > after)
            .order_by(e.id)
        )
        if alert is not None:
            query = query.where(e.alert == alert)
        with self._read() as connection:
            return [AlertEvent(**row._mapping) for row in connection.execute(query)]

    def asked_for(self, project: str, alert: str) -> list[ArtifactVersion]:
        """Return the versions that the runs of an alert made, in the order in which they came."""
        v = schema.versions.c
        mark = f"alert:{alert}"
        query = (
            sa.select(schema.versions)
            .where(v.project == project, v.asked_by.contains(mark, autoescape=True))
            .order_by(v.id)
        )
        found = self._many(query)
        return [version for version in found if mark in version.asked_by.split()]

    def used_since(self, project: str, kind: str, after: int) -> list[tuple[int, str, int]]:
        """Return (number, partition, version id) of what was put in use after a number.

        The number rises with every use and does not depend on the clock.
        """
        u = schema.uses.c
        query = (
            sa.select(u.id, u.partition, u.version_id)
            .where(u.project == self.scope(project), u.kind == kind, u.id > after)
            .order_by(u.id)
        )
        with self._read() as connection:
            return [(row.id, row.partition, row.version_id) for row in connection.execute(query)]
