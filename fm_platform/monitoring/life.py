"""The life of an alert, told from its recorded steps; and whether it may act now.

    opened -> waits (for approval) -> approved -> asked -> running -> finished
           -> checking (its day is looked at again) -> repaired | not_repaired | made_worse
    beside these: seen (again on another day), accepted, snoozed, raised, lowered, told (a notice)

Nothing here reads a clock or a database: the same steps and the same moment give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from fm_platform.lineage.alert_events import AlertEvent
from fm_platform.monitoring.records import SEVERITIES, Alert, Repair, Severity
from fm_platform.spec.alerts import Alerts

CLOSED = ("repaired", "accepted")
"""States that need nobody any more."""
ACTING = ("asked", "running", "finished", "checking")
"""States between the wish for a repair and its outcome."""
_STATES = (*ACTING, "approved", "waits", "repaired", "not_repaired", "made_worse")
LATE, MONITOR = "late", "monitor"
"""Kinds of causes that are not findings: rows that came late, and a monitor that does not watch."""
CHANGES = ("accepted", "snoozed", "raised", "lowered")


@dataclass(frozen=True)
class Life:
    """An alert as it stands.

    Attributes:
        alert: As it was last seen.
        state: The last step that is a state: `open` before any.
        events: All its steps, oldest first.
        attempt: Number of the repair that was asked for last; 0: none.
        repair: That repair.
        run: Id of its Dagster backfill or run; empty while there is none.
    """

    alert: Alert
    state: str = "open"
    events: tuple[AlertEvent, ...] = field(default=(), repr=False)
    attempt: int = 0
    repair: Repair | None = None
    run: str = ""

    @property
    def opened(self) -> datetime:
        """When it was opened."""
        return self.events[0].at

    @property
    def first(self) -> Alert:
        """The alert as it was opened."""
        event = next((e for e in self.events if e.what == "opened"), None)
        return Alert.from_json(event.body["alert"]) if event else self.alert

    @property
    def is_open(self) -> bool:
        """Whether somebody or something still has to do with it."""
        return self.state not in CLOSED

    def last(self, what: str) -> AlertEvent | None:
        """Return its last step of a kind."""
        return next((e for e in reversed(self.events) if e.what == what), None)


@dataclass(frozen=True)
class Rulings:
    """What people said of causes: the changes of the policy that stand.

    Attributes:
        accepted: Cause -> the step that accepted it as normal.
        snoozed: Cause -> until when nobody is told.
        shifts: Cause -> by how many steps its severity is raised (or, below 0, lowered).
    """

    accepted: Mapping[str, AlertEvent]
    snoozed: Mapping[str, datetime]
    shifts: Mapping[str, int]

    def silences(self, cause: str, at: datetime) -> bool:
        """Whether nothing is sent and nothing done about a cause at a moment."""
        return cause in self.accepted or (cause in self.snoozed and at < self.snoozed[cause])

    def severity(self, alert: Alert) -> Severity:
        """Return how grave an alert is, by its impact and by what people said of its cause."""
        shift = self.shifts.get(alert.cause.key, 0)
        place = SEVERITIES.index(alert.severity) + shift
        return SEVERITIES[min(max(place, 0), len(SEVERITIES) - 1)]


def lives(events: Iterable[AlertEvent]) -> dict[str, Life]:
    """Return alert id -> its life, in the order in which they were opened."""
    steps: dict[str, list[AlertEvent]] = {}
    for event in events:
        steps.setdefault(event.alert, []).append(event)
    return {
        name: _life(listed)
        for name, listed in steps.items()
        if any(e.what == "opened" for e in listed)
    }


def _life(events: Sequence[AlertEvent]) -> Life:
    first = next(e for e in events if e.what == "opened")
    life = Life(Alert.from_json(first.body["alert"]), events=tuple(events))
    for event in events:
        if event.what == "seen":
            # its findings may begin on another day by now; it is the alert it was
            again = Alert.from_json(event.body["alert"])
            life = replace(life, alert=replace(again, since=life.alert.since))
        elif event.what == "accepted":
            life = replace(life, state="accepted")
        elif event.what in _STATES:
            life = replace(life, state=event.what)
        if event.what == "asked":
            repair = _repair(life.alert, event.body)
            life = replace(life, attempt=int(event.body["attempt"]), repair=repair, run="")
        elif event.what == "running":
            life = replace(life, run=str(event.body["run"]))
    return life


def _repair(alert: Alert, body: Mapping[str, Any]) -> Repair:
    told = {**body["repair"]}
    return Repair(**{**told, **{n: tuple(told[n]) for n in ("days", "stages", "experts")}})


def rulings(events: Iterable[AlertEvent]) -> Rulings:
    """Return the changes of the policy that stand; a later one on the same cause replaces it."""
    accepted: dict[str, AlertEvent] = {}
    snoozed: dict[str, datetime] = {}
    shifts: dict[str, int] = {}
    for event in events:
        if event.what not in CHANGES:
            continue
        cause = str(event.body["cause"])
        if event.what == "accepted":
            accepted[cause] = event
        elif event.what == "snoozed":
            snoozed[cause] = datetime.fromisoformat(event.body["until"])
        else:
            shifts[cause] = shifts.get(cause, 0) + (1 if event.what == "raised" else -1)
    return Rulings(accepted, snoozed, shifts)


@dataclass(frozen=True)
class Verdict:
    """Whether a repair runs now, and why or why not."""

    repair: Repair | None
    why: str


def may_act(
    life: Life, policy: Alerts, all_lives: Iterable[Life], said: Rulings, at: datetime
) -> Verdict:
    """Return the repair that runs now; None where it waits, with the reason.

    Args:
        life: The alert.
        policy: What the project declares.
        all_lives: Every alert of the project: they share the budget.
        said: What people said of causes.
        at: Now.
    """
    if (approved := life.last("approved")) is not None and life.state == "approved":
        return Verdict(life.alert.repairs[int(approved.body["repair"])], approved.reason)
    severity = said.severity(life.alert)
    if life.state not in ("open", "waits") or life.attempt:
        return Verdict(None, "it has been acted upon")
    if severity == "record" or said.silences(life.alert.cause.key, at):
        return Verdict(None, "nobody wants to be told of it")
    repair = next(
        (r for r in life.alert.repairs if r.automatic and r.kind in policy.automatic), None
    )
    if repair is None:
        return Verdict(None, "no repair of it may run by itself")
    if SEVERITIES.index(severity) < SEVERITIES.index(policy.least):
        return Verdict(None, f"repairs run by themselves from severity {policy.least} on")
    asked = [e for other in all_lives for e in other.events if e.what == "asked"]
    return _within_budget(repair, life, policy, asked, at)


def _within_budget(
    repair: Repair, life: Life, policy: Alerts, asked: Sequence[AlertEvent], at: datetime
) -> Verdict:
    # a clock that was set back must not forget what was spent: what lies ahead counts as well
    today = [e for e in asked if e.at > at - timedelta(days=1) and not e.body.get("approved")]
    if len(today) >= policy.runs_per_day:
        return Verdict(None, f"{len(today)} of {policy.runs_per_day} runs of a day are used up")
    spent = sum(float(e.body["repair"].get("minutes") or 0.0) for e in today)
    if spent + (repair.minutes or 0.0) > policy.minutes_per_day:
        return Verdict(
            None, f"{spent:g} of {policy.minutes_per_day:g} minutes of a day are used up"
        )
    cool = timedelta(hours=policy.cooldown_hours)
    cause = life.alert.cause.key
    if any(e.body["cause"] == cause and e.at > at - cool for e in asked):
        return Verdict(None, f"this cause was acted upon within {policy.cooldown_hours:g} hours")
    return Verdict(repair, f"the policy lets {repair.kind} run by itself")
