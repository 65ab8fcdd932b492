"""The desk where alerts are kept: opened once, acted upon within the policy, judged afterwards.

Every step is a record of the ledger with a name of its own, so a second tick, a tick that is done
again after a crash, or a clock that was set back adds nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from fm_platform.errors import FMError
from fm_platform.lineage.database import now
from fm_platform.lineage.status import StatusRow, status
from fm_platform.monitoring.life import (
    CHANGES,
    LATE,
    MONITOR,
    Life,
    Rulings,
    lives,
    may_act,
    rulings,
)
from fm_platform.monitoring.records import Alert, Repair
from fm_platform.spec.alerts import Alerts
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.outcome import close
from fm_platform.stages.probe import probe
from fm_platform.stages.versus import take_back
from fm_platform.workspace import Workspace

DAILY = ("raw", "weak_labels", "cleaned")
MODELS = ("adapters", "merged_model", "evaluation")
MACHINE = ("backfill", "retrain")
"""Kinds of repairs that a run can do."""
OVER_AFTER = 3
"""Days after the last on which a cause was found: so many without it, and its alert is closed."""
_IDLE = ("open", "waits", "not_repaired", "made_worse")
"""States in which nobody acts upon an alert."""


@dataclass(frozen=True)
class Work:
    """What a repair would build.

    Attributes:
        days: Days of which some daily table would change, sorted.
        stages: Daily stages to build.
        models: Whether the model is built again as well.
    """

    days: tuple[str, ...]
    stages: tuple[str, ...]
    models: bool

    def __bool__(self) -> bool:
        return bool(self.days) or self.models


class Desk:
    """The alerts of one project.

    Args:
        ws: The workspace.
        project: The project; without an `alerts` part nothing runs by itself.
    """

    def __init__(self, ws: Workspace, project: LoadedProject) -> None:
        self.ws, self.project, self.name = ws, project, project.spec.name
        self.policy = project.spec.alerts or Alerts()

    # --- what stands --------------------------------------------------------------------------

    def lives(self) -> dict[str, Life]:
        """Return alert id -> its life, in the order in which they were opened."""
        return lives(self.ws.ledger.alert_events(self.name))

    def rulings(self) -> Rulings:
        """Return what people said of causes."""
        return rulings(self.ws.ledger.alert_events(self.name))

    def find(self, prefix: str) -> Life:
        """Return the alert whose id begins so.

        Raises:
            FMError: If there is none, or several.
        """
        found = [life for name, life in self.lives().items() if name.startswith(prefix)]
        if len(found) != 1 or not prefix:
            raise FMError(
                f"{'several alerts' if len(found) > 1 else 'no alert'} of {self.name} with this id",
                found=prefix,
                expected=", ".join(sorted(life.alert.id for life in found)[:5]) or None,
                next_step=f"fm alerts list {self.name}",
            )
        return found[0]

    # --- findings come in ---------------------------------------------------------------------

    def take_in(self, after: int) -> int:
        """Open or renew alerts of every findings that came since; return where that ends."""
        came = False
        for number, _day, version_id in self.ws.ledger.used_since(self.name, "findings", after):
            version = self.ws.ledger.get(version_id)
            found = [Alert.from_json(one) for one in version.location.get("alerts", [])]
            self.open(found, number)
            after = number
            came = True
        if came:
            self._close_what_is_over()
        take_back(self)
        return after

    def _close_what_is_over(self) -> None:
        """Close alerts that stand no more: an open one swallows the next time it happens.

        That is where the last look at its day, or every look at some days after it, finds them no
        more. What is waited for or runs is judged when it ended.
        """
        causes = {
            str(version.partition): {
                Alert.from_json(one).cause.key for one in version.location.get("alerts", [])
            }
            for version in self.ws.ledger.all_latest(self.name, "findings")
        }
        for life in self.lives().values():
            alert = life.alert
            if life.state not in _IDLE or alert.cause.kind in (LATE, MONITOR):
                continue
            if alert.cause.key in causes.get(alert.day, {alert.cause.key}):
                later = [day for day in sorted(causes) if day > alert.day]
                if len(later) < OVER_AFTER or any(alert.cause.key in causes[d] for d in later):
                    continue
                words = f"it is over: not found on {', '.join(later[:OVER_AFTER])}"
            else:
                words = f"{alert.day} was looked at again: it is not found any more"
            self.note(alert.id, "repaired", f"over:{len(life.events)}", reason=words)

    def open(self, found: Iterable[Alert], number: int) -> list[str]:
        """Record alerts, one for each cause that is not yet open; return the ids of new ones."""
        said, at = self.rulings(), now()
        known = self.lives()
        by_cause = {life.alert.cause.key: life for life in known.values() if life.is_open}
        opened = []
        for alert in found:
            cause = alert.cause.key
            life = by_cause.get(cause)
            if cause in said.accepted:
                continue  # it stays in the findings; nobody is told
            if life is not None:
                if alert.day >= life.alert.day:
                    self.note(life.alert.id, "seen", f"seen:{number}", {"alert": alert.to_json()})
            elif alert.id not in known:
                silent = said.silences(cause, at)
                body = {"alert": alert.to_json(), "findings": number, "silent": silent}
                if self.note(alert.id, "opened", "opened", body, alert.title):
                    opened.append(alert.id)
        return opened

    # --- acting -------------------------------------------------------------------------------

    def due(self) -> list[Life]:
        """Return the alerts whose repair must run: newly asked for, or asked and never begun.

        The wish is recorded before anything runs. Whoever launches looks first whether a run of
        this alert and attempt exists (`running`): that makes one of it, never two and never none.
        """
        known, said = self.lives(), self.rulings()
        for life in known.values():
            if life.state not in ("open", "waits", "approved") or life.alert.cause.kind == LATE:
                continue
            if self._consider(life, list(known.values()), said):
                known = self.lives()  # they share the budget
        return [
            life
            for life in known.values()
            if life.state == "asked" and life.alert.cause.kind != LATE
        ]

    def _consider(self, life: Life, everything: Sequence[Life], said: Rulings) -> bool:
        """Return whether a repair of an alert is asked for now."""
        verdict = may_act(life, self.policy, everything, said, now())
        name, alert = life.alert.id, life.alert
        if verdict.repair is None:
            if life.state == "open" and said.severity(alert) != "record":
                self.note(name, "waits", f"waits:{life.attempt}", reason=verdict.why)
            return False
        work = self.work(verdict.repair)
        attempt = life.attempt + 1
        if not work:
            reason = "building it again would change nothing: nothing it is made from is new"
            if "raw" in verdict.repair.stages:
                reason = "bringing it in again would change nothing: no rows came since"
            approvals = sum(event.what == "approved" for event in life.events)
            self.note(name, "waits", f"nothing:{approvals}", reason=reason)  # once, not each tick
            return False
        body = {
            "attempt": attempt, "cause": alert.cause.key, "approved": life.state == "approved",
            "repair": dataclasses.asdict(verdict.repair), "days": list(work.days),
            "stages": list(work.stages), "models": work.models, "evaluation": self._evaluation(),
            "champion": self._champion(),
        }  # fmt: skip
        return self.note(name, "asked", f"asked:{attempt}", body, verdict.why)

    def work(self, repair: Repair) -> Work:
        """Return what a repair would build: the days whose content would change, and no others.

        One that is to bring in rows has nothing to do on a day for which none came, whatever else
        of it is stale: an edited function, say, waits for who edited it.
        """
        stages = tuple(stage for stage in DAILY if stage in repair.stages)
        wanted = {day for day in repair.days if "raw" not in stages or self._rows_came(day)}
        kinds = {*stages, *(("votes", "label_model") if "weak_labels" in stages else ())}
        days = {
            row.partition
            for row in self.status
            if row.partition in wanted and row.kind in kinds and row.state != "fresh"
        }
        models = any(stage in repair.stages for stage in MODELS) and (
            bool(days)
            or any(row.kind in ("start", "adapter") and row.state != "fresh" for row in self.status)
        )
        return Work(tuple(sorted(filter(None, days))), stages, models)

    def _rows_came(self, day: str) -> bool:
        """Whether a day has rows that are not brought in yet, or not labeled yet."""
        came = {row.partition for row in self.status if row.kind == "raw" and row.state != "fresh"}
        if day in came:
            return True
        raw, labels = (
            self.ws.ledger.latest(self.name, kind, kind, day) for kind in ("raw", "weak_labels")
        )
        made_of = {one.content_hash for one in labels.inputs} if labels is not None else set()
        return raw is not None and raw.content_hash not in made_of

    @cached_property
    def status(self) -> list[StatusRow]:
        """What is fresh and what is not, as of when it was first asked for."""
        return status(self.ws.ledger, self.project.spec, probe(self.ws, self.project))

    def running(self, life: Life, run: str) -> None:
        """Record that the repair runs as this Dagster backfill or run."""
        once = f"running:{life.attempt}"
        self.note(life.alert.id, "running", once, {"run": run, "attempt": life.attempt})

    def finished(self, life: Life, success: bool, words: str) -> None:
        """Record that the repair ended; a failed one has repaired nothing."""
        body = {"run": life.run, "success": success, "attempt": life.attempt}
        self.note(life.alert.id, "finished", f"finished:{life.attempt}", body, words)
        if not success:
            close(self, life, False, f"the run of the repair failed: {words}")

    # --- did it help? -------------------------------------------------------------------------

    def checking(self) -> list[Life]:
        """Return the alerts whose day must be looked at again: their repair ended.

        The wish is recorded first, as that for a repair is: one look, never two and never none.
        """
        for life in self.lives().values():
            if life.state == "finished" and life.alert.cause.kind != LATE:
                body = {"attempt": life.attempt, "day": life.alert.day}
                self.note(life.alert.id, "checking", f"checking:{life.attempt}", body)
        return [life for life in self.lives().values() if life.state == "checking"]

    def close(self, life: Life, success: bool, words: str) -> None:
        """Close an alert whose day was looked at again."""
        close(self, life, success, f"it could not be looked at again: {words}")

    # --- what people say ----------------------------------------------------------------------

    def approve(self, life: Life, position: int, reason: str, actor: str) -> None:
        """Let one repair of an alert run at the next tick.

        Raises:
            FMError: If there is no such repair, or people must do it, or one runs.
        """
        repairs = life.alert.repairs
        choices = [f"{i} {r.title}" for i, r in enumerate(repairs, 1) if r.kind in MACHINE]
        if not 1 <= position <= len(repairs) or repairs[position - 1].kind not in MACHINE:
            raise FMError(
                "this is no repair that a run can do",
                found=position,
                expected="; ".join(choices) or "none of this alert: people must act",
            )
        if life.state in ("asked", "running"):
            raise FMError("a repair of this alert runs already", found=life.run or None)
        once = f"approved:{len(life.events)}"
        self.note(life.alert.id, "approved", once, {"repair": position - 1}, reason, actor)

    def rule(
        self, life: Life, what: str, reason: str, actor: str, until: datetime | None = None
    ) -> None:
        """Change the policy about the cause of an alert: a dated record with author and reason.

        Args:
            life: The alert.
            what: `accepted`, `snoozed`, `raised` or `lowered`.
            reason: Why.
            actor: Who.
            until: End of a snooze.
        """
        if what not in CHANGES:
            raise FMError(
                "this is no change of the policy", found=what, expected=", ".join(CHANGES)
            )
        if not reason.strip():
            raise FMError("say why, in a few words", next_step="--reason '...'")
        events = self.ws.ledger.alert_events(self.name)
        version = 1 + sum(e.what in CHANGES for e in events)
        body: dict[str, Any] = {"cause": life.alert.cause.key, "version": version}
        if until is not None:
            body["until"] = until.isoformat()
        self.note(life.alert.id, what, f"{what}:{version}", body, reason, actor)

    def note(
        self, alert: str, what: str, once: str, body: Mapping[str, Any] | None = None,
        reason: str = "", actor: str = "sensor",
    ) -> bool:  # fmt: skip
        """Record a step of an alert once; return False where it is recorded already."""
        return self.ws.ledger.record_alert_event(
            self.name, alert, what, once=once, body=body, reason=reason, actor=actor
        )

    def _evaluation(self) -> int | None:
        version = self.ws.ledger.latest(self.name, "evaluation", "evaluation")
        return version.id if version else None

    def _champion(self) -> int | None:
        version = self.ws.ledger.alias(self.name, "champion")
        return version.id if version else None
