"""Rows that came late or were corrected: their day is brought in again, then what depends on it.

First `raw` of that day alone. Only where its rows came out different are other tables built again,
on exactly the days that read them, and the day is watched once more; otherwise nothing is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from fm_platform.errors import SourceError
from fm_platform.hashing import fingerprint
from fm_platform.monitoring.life import LATE, Life
from fm_platform.monitoring.records import Alert, Cause, Estimate, Impact, Repair
from fm_platform.stages.alerts import Desk
from fm_platform.stages.probe import project_days, source_ids, sources_read

_UNKNOWN = Impact(Estimate(0.0, 0.0, 0.0, "not estimated: the rows are not read yet"))
_BELOW = ("votes", "label_model", "weak_labels", "shingles", "cleaned")


class Late:
    """The late days of one project.

    Args:
        desk: Its alerts.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk, self.name = desk, desk.name

    def look(self) -> None:
        """Record each day of the window whose sources hold other bytes than were read."""
        desk = self.desk
        days = project_days(desk.project)
        for day in days[-desk.policy.late_days :] if desk.policy.late_days else []:
            raw = desk.ws.ledger.latest(self.name, "raw", "raw", day)
            if raw is None:
                continue  # never built: the schedule's or a person's business
            read = sources_read(raw)
            try:
                now = source_ids(desk.ws, desk.project, day)
            except SourceError:
                continue  # `monitors` tells of a source that cannot be read
            changed = tuple(sorted(s for s in now if now[s] != read.get(s) and s in read))
            if changed:
                self._open(day, changed, fingerprint([now[s] for s in changed])[:12], raw)

    def _open(self, day: str, sources: tuple[str, ...], content: str, raw: Any) -> None:
        repair = Repair(
            "backfill", f"Bring in {day} again", "Its source holds other bytes than were read.",
            (day,), ("raw",), automatic=True,
        )  # fmt: skip
        alert = Alert(
            self.name, day, day, Cause(LATE, sources[0], content, sources),
            f"{', '.join(sources)}: rows of {day} came late or were corrected",
            ("the source holds other bytes than were read",), (), _UNKNOWN, "record", (repair,),
        )  # fmt: skip
        self.desk.note(alert.id, "opened", "opened", {"alert": alert.to_json()}, alert.title)
        self._ask(alert, 1, repair, raw.content_hash, alert.title)

    def _ask(self, alert: Alert, attempt: int, repair: Repair, raw: str, why: str) -> None:
        body = {
            "attempt": attempt, "cause": alert.cause.key, "approved": True, "raw": raw,
            "repair": dataclasses.asdict(repair), "days": list(repair.days),
            "stages": list(repair.stages), "models": False, "evaluation": None,
        }  # fmt: skip
        self.desk.note(alert.id, "asked", f"asked:{attempt}", body, why)

    def due(self) -> list[Life]:
        """Go on with what ended; return what must run."""
        for life in self.lives():
            if life.state == "finished":
                self._go_on(life)
        return [life for life in self.lives() if life.state == "asked"]

    def lives(self) -> list[Life]:
        """Return the late days that were ever found."""
        return [life for life in self.desk.lives().values() if life.alert.cause.kind == LATE]

    def _go_on(self, life: Life) -> None:
        alert, asked = life.alert, life.last("asked")
        raw = self.desk.ws.ledger.latest(self.name, "raw", "raw", alert.day)
        if asked is None or raw is None:
            return
        if life.attempt > 1:
            self._look_again(life, raw.content_hash)
            return
        if raw.content_hash == asked.body["raw"]:
            self._close(life, "its rows change nothing")
            return
        days = self.concerned(alert.day)
        if not days:
            self._close(life, "nothing reads what changed")
            return
        stages: tuple[str, ...] = ("weak_labels", "cleaned")
        if self.desk.ws.ledger.latest(self.name, "cleaned", "cleaned", alert.day) is None:
            stages = (*stages, "watch")  # what its run did not come to: it is a new day
        again = Repair(
            "backfill", f"Build {len(days)} days again", f"Rows of {alert.day} changed.", days,
            stages, automatic=True,
        )  # fmt: skip
        self._ask(alert, 2, again, raw.content_hash, f"rows of {alert.day} changed")

    def _look_again(self, life: Life, raw: str) -> None:
        """Have the day watched once more, where it was: its alerts may be over. Then close."""
        day, stages = life.alert.day, life.repair.stages if life.repair else ()
        watched = self.desk.ws.ledger.latest(self.name, "findings", "findings", day) is not None
        if watched and "watch" not in stages:
            look = Repair("backfill", f"Look at {day} again", "Its rows changed.", (day,),
                          ("watch",), automatic=True)  # fmt: skip
            self._ask(life.alert, 3, look, raw, f"rows of {day} changed")
            return
        self._close(life, "its day and all that reads it are built again")

    def concerned(self, day: str) -> tuple[str, ...]:
        """Return the days that are made from another content of `raw` of a day, and that day.

        Of other days only built ones. The day itself was asked for: where it came empty, its run
        ended at `raw`.
        """
        found = {
            row.partition
            for row in self.desk.status
            if row.kind in _BELOW
            and row.partition is not None
            and (
                row.partition == day
                if row.state == "unbuilt"
                else row.state == "stale" and (row.partition == day or day in row.why)
            )
        }
        return tuple(sorted(filter(None, found)))

    def _close(self, life: Life, words: str) -> None:
        self.desk.note(life.alert.id, "repaired", f"outcome:{life.attempt}", None, words)
