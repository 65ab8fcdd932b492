"""The desk where alerts are kept: opened once, acted upon within the policy, judged afterwards.

Every step is a record of the ledger with a name of its own, so a second tick, a tick that is done
again after a crash, or a clock that was set back adds nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from fm_platform.errors import FMError
from fm_platform.lineage.database import now
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.status import StatusRow, status
from fm_platform.monitoring.life import CHANGES, LATE, Life, Rulings, lives, may_act, rulings
from fm_platform.monitoring.records import Alert, Repair
from fm_platform.spec.alerts import Alerts
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.probe import probe
from fm_platform.workspace import Workspace

DAILY = ("raw", "weak_labels", "cleaned")
MODELS = ("adapters", "merged_model", "evaluation")
MACHINE = ("backfill", "retrain")
"""Kinds of repairs that a run can do."""


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


@dataclass(frozen=True)
class Score:
    """A score before and after a repair, on the same gold rows.

    Attributes:
        metric: Its name.
        source: Of these rows, or `all`.
        before, after: `value`, `low` and `high`.
    """

    metric: str
    source: str
    before: Mapping[str, float]
    after: Mapping[str, float]


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
        for number, day, version_id in self.ws.ledger.used_since(self.name, "findings", after):
            version = self.ws.ledger.get(version_id)
            found = [Alert.from_json(one) for one in version.location.get("alerts", [])]
            self.judge(day, number, found)
            self.open(found, number)
            self.take_back(found, version)
            after = number
        return after

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
                told = dataclasses.replace(alert, severity=said.severity(alert))
                silent = said.silences(cause, at)
                body = {"alert": told.to_json(), "findings": number, "silent": silent}
                if self.note(alert.id, "opened", "opened", body, alert.title):
                    opened.append(alert.id)
        return opened

    # --- acting -------------------------------------------------------------------------------

    def due(self) -> list[Life]:
        """Return the alerts whose repair must run: newly asked for, or asked and never begun.

        The wish is recorded before anything runs. Whoever launches looks first whether a run of
        this alert and attempt exists (`running`): that makes one of it, never two and never none.
        """
        known = self.lives()
        for life in known.values():
            if life.state in ("open", "waits", "approved") and life.alert.cause.kind != LATE:
                self._consider(life, list(known.values()))
                known = self.lives()
        return [
            life
            for life in known.values()
            if life.state == "asked" and life.alert.cause.kind != LATE
        ]

    def _consider(self, life: Life, everything: Sequence[Life]) -> None:
        verdict = may_act(life, self.policy, everything, self.rulings(), now())
        name, alert = life.alert.id, life.alert
        if verdict.repair is None:
            if life.state == "open" and alert.severity != "record":
                self.note(name, "waits", f"waits:{life.attempt}", reason=verdict.why)
            return
        work = self.work(verdict.repair)
        attempt = life.attempt + 1
        if not work:
            reason = "building it again would change nothing: nothing it is made from is new"
            self.note(name, "waits", f"nothing:{len(life.events)}", reason=reason)
            return
        body = {
            "attempt": attempt, "cause": alert.cause.key, "approved": life.state == "approved",
            "repair": dataclasses.asdict(verdict.repair), "days": list(work.days),
            "stages": list(work.stages), "models": work.models, "evaluation": self._evaluation(),
        }  # fmt: skip
        self.note(name, "asked", f"asked:{attempt}", body, verdict.why)

    def work(self, repair: Repair) -> Work:
        """Return what a repair would build: the days whose content would change, and no others."""
        stages = tuple(stage for stage in DAILY if stage in repair.stages)
        wanted = set(repair.days)
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
        uses = self.ws.ledger.used_since(self.name, "findings", 0)
        body = {"run": life.run, "success": success, "use": uses[-1][0] if uses else 0}
        self.note(life.alert.id, "finished", f"finished:{life.attempt}", body, words)
        if not success:
            self.note(
                life.alert.id, "not_repaired", f"outcome:{life.attempt}", body,
                f"the run of the repair failed: {words}",
            )  # fmt: skip

    # --- did it help? -------------------------------------------------------------------------

    def judge(self, day: str, number: int, found: Sequence[Alert]) -> None:
        """Close the alerts whose day was looked at again after their repair."""
        for life in self.lives().values():
            ended = life.last("finished")
            if life.state != "finished" or ended is None or day < life.alert.day:
                continue
            if life.alert.cause.kind == LATE:
                continue
            if number <= int(ended.body["use"]):
                continue
            cause = life.alert.cause.key
            again = next((a for a in found if a.cause.key == cause and a.sends), None)
            what, words, score = self._outcome(life, again)
            body = {"findings": number, "score": dataclasses.asdict(score) if score else None}
            body["versions"] = self._versions()
            self.note(life.alert.id, what, f"outcome:{life.attempt}", body, words)

    def _outcome(self, life: Life, again: Alert | None) -> tuple[str, str, Score | None]:
        score = self.score(life)
        told = ""
        if score is not None:
            before, after = score.before, score.after
            told = (
                f"{score.metric} on {score.source} {before['value']:.3f} -> {after['value']:.3f} "
                f"({after['low']:.3f} to {after['high']:.3f})"
            )
            if after["high"] < before["value"]:
                return "made_worse", told, score
        if again is not None and again.impact.worst > life.alert.impact.worst + 1.0:
            worse = (
                f"expected loss {life.alert.impact.worst:.1f} -> {again.impact.worst:.1f} points"
            )
            return "made_worse", "; ".join(filter(None, (worse, told))), score
        if again is not None:
            still = "the same cause is still found"
            return "not_repaired", "; ".join(filter(None, (still, told))), score
        gone = "the cause is no longer found"
        return "repaired", "; ".join(filter(None, (gone, told))), score

    def score(self, life: Life) -> Score | None:
        """Return the old and the new champion on the gold rows of where it was seen.

        None where the repair led to no new evaluation.
        """
        asked = life.last("asked")
        version = self.ws.ledger.latest(self.name, "evaluation", "evaluation")
        if version is None or asked is None or version.id == asked.body["evaluation"]:
            return None
        metric = self.project.spec.gate.metric
        rows = {(r["system"], r["source"]): r for r in version.metrics["evaluation"]["rows"]}
        for source in (*life.alert.cause.slices, "all"):
            before, after = rows.get(("champion", source)), rows.get(("merged_model", source))
            if before and after and metric in before and metric in after:
                return Score(metric, source, before[metric], after[metric])
        return None

    def take_back(self, found: Sequence[Alert], version: ArtifactVersion) -> bool:
        """Move `champion` back where a young one surely lost on gold; return whether it moved."""
        ledger = self.ws.ledger
        moves = ledger.alias_history(self.name, "champion")
        if len(moves) < 2 or moves[-1].version_id is None or moves[-2].version_id is None:
            return False
        here, before = moves[-1], moves[-2]
        champion = ledger.get(moves[-1].version_id)
        judged = {i.content_hash for i in version.inputs}
        if champion.content_hash not in judged or here.actor == "alerts":
            return False
        if now() - here.set_at > timedelta(days=self.policy.probation_days):
            return False
        worst = min(
            (a.impact.gold for a in found if a.impact.gold), key=lambda g: g.high, default=None
        )
        if worst is None or worst.high > -self.policy.rollback_points:
            return False
        reason = (
            f"live gold fell by {-worst.points:.1f} points ({-worst.high:.1f} to {-worst.low:.1f}) "
            f"on {worst.rows} rows since it was promoted"
        )
        numbers = {**dataclasses.asdict(worst), "findings": version.content_hash}
        ledger.set_alias(
            self.name, "champion", before.version_id, expected=here.version_id, reason=reason,
            actor="alerts",
        )  # fmt: skip
        ledger.record_decision(self.name, "rollback", before.version_id, numbers, reason, "alerts")
        self.ws.tracker.set_champion(
            self.name, ledger.get(int(before.version_id or 0)).recipe_hash, reason
        )
        self.note("-", "rolled_back", f"rolled_back:{here.number}", numbers, reason)
        return True

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

    def _versions(self) -> dict[str, int]:
        """Return what is in use of the model, by kind: what the repair led to."""
        return {
            kind: version.id
            for kind in ("merged_model", "evaluation")
            if (version := self.ws.ledger.latest(self.name, kind, kind)) is not None
        }
