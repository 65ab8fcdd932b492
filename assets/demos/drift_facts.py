"""What the records say of the drift demo: nothing here is remembered, all of it is looked up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.instance import open_instance
from fm_platform.display import plain

if TYPE_CHECKING:
    from fm_platform.lineage.alert_events import AlertEvent
    from fm_platform.monitoring.life import Life
    from fm_platform.workspace import Workspace

ARRIVED = "amazon"
_CLOSED = ("repaired", "not_repaired", "made_worse")


@dataclass(frozen=True)
class Held:
    """One thing that the demo has to show, and whether it did."""

    holds: bool
    words: str


@dataclass(frozen=True)
class Facts:
    """What is recorded by now.

    Attributes:
        alerts: Alerts that somebody is told of, by what they found.
        story: What happened, one line each, oldest first.
        backfills: Tags of every backfill and run that an alert asked for, its looks left out.
        champions: How many models became champion.
        quiet_ticks: Ticks of the drift sensor since the last alert closed that asked for nothing.
        busy_ticks: Those that asked for something.
        score: Before and after, of the last outcome.
    """

    alerts: tuple[Life, ...] = ()
    story: tuple[str, ...] = ()
    backfills: tuple[dict[str, str], ...] = ()
    champions: int = 0
    quiet_ticks: int = 0
    busy_ticks: int = 0
    score: dict[str, Any] = field(default_factory=dict)

    @property
    def closed(self) -> bool:
        """Whether every alert got its outcome."""
        return bool(self.alerts) and all(life.state in _CLOSED for life in self.alerts)

    @property
    def alert_id(self) -> str:
        """Id of the first alert, or a word for it."""
        return self.alerts[0].alert.id if self.alerts else "ID"

    def held(self, ticks: int) -> list[Held]:
        """Return each thing that has to hold."""
        causes = [(life.alert.cause.kind, life.alert.cause.name) for life in self.alerts]
        states = [life.state for life in self.alerts]
        told = {tags.get("alert_id") for tags in self.backfills}
        on = self.score.get("slices", [])
        quiet = self.quiet_ticks >= ticks and self.busy_ticks == 0
        return [
            Held(len(self.alerts) == 1, f"one alert ({len(self.alerts)})"),
            Held(causes == [("source_came", ARRIVED)], f"its cause is that {ARRIVED} came"),
            Held(
                len(self.backfills) == 1 and told == {self.alert_id},
                f"one backfill by the sensor, with the alert's id ({len(self.backfills)})",
            ),
            Held(self.champions == 2, f"retrained, gated, promoted (champions: {self.champions})"),
            Held(
                states == ["repaired"] and self.score.get("method") == "gold" and on == [ARRIVED],
                f"closed as repaired, before and after on gold of {ARRIVED}",
            ),
            Held(quiet, f"{ticks} further ticks did nothing ({self.quiet_ticks} quiet)"),
        ]


def facts(ws: Workspace, project: str) -> Facts:
    """Look everything up in the ledger and in Dagster."""
    from fm_platform.monitoring.life import LATE, MONITOR, lives, rulings

    ledger = ws.ledger
    events = ledger.alert_events(project)
    said = rulings(events)
    found = tuple(
        life
        for life in lives(events).values()
        if life.alert.cause.kind not in (LATE, MONITOR) and said.severity(life.alert) != "record"
    )
    moves = ledger.alias_history(project, "champion")
    outcome = [e for life in found for e in life.events if e.what in _CLOSED]
    names = {life.alert.id for life in found}
    story = [(e.at, _line(e, names)) for e in events]
    story += [
        (m.set_at, f"champion {number}: {plain(m.reason)}") for number, m in enumerate(moves, 1)
    ]
    told = tuple(line for _, line in sorted(story) if line)
    with open_instance(ws.home) as instance:
        quiet, busy = _ticks(
            instance, f"{project}_drift", outcome[-1].at.timestamp() if outcome else None
        )
        return Facts(
            found, told, tuple(_backfills(instance)), len(moves), quiet, busy,
            dict(outcome[-1].body.get("score") or {}) if outcome else {},
        )  # fmt: skip


def _line(event: AlertEvent, names: set[str]) -> str:
    if event.alert not in names:
        return ""
    words = plain(event.reason)
    return {
        "opened": f"alert {event.alert}: {words}",
        "asked": f"repair: {plain(event.body.get('repair', {}).get('title', ''))} ({words})",
        "running": f"Dagster runs it: {event.body.get('run')}",
        "finished": f"the repair ended: {words}",
        "checking": "its day is looked at again",
        "repaired": f"repaired: {words}",
        "not_repaired": f"not repaired: {words}",
        "made_worse": f"made worse: {words}",
    }.get(event.what, "")


def _backfills(instance: dg.DagsterInstance) -> list[dict[str, str]]:
    """Return the tags of what alerts asked for: backfills, and runs that belong to none."""
    found = [dict(one.tags) for one in instance.get_backfills() if "alert_id" in one.tags]
    for run in instance.get_runs():
        tags = dict(run.tags)
        if "alert_id" in tags and "alert_check" not in tags and "dagster/backfill" not in tags:
            found.append(tags)
    return found


def _ticks(instance: dg.DagsterInstance, sensor: str, after_s: float | None) -> tuple[int, int]:
    """Return how many ticks since a moment asked for nothing, and how many for something."""
    from dagster._core.scheduler.instigation import TickStatus

    if after_s is None:
        return 0, 0
    quiet = busy = 0
    for state in instance.all_instigator_state():
        if state.instigator_name != sensor:
            continue
        for tick in instance.get_ticks(
            state.instigator_origin_id, state.selector_id, after=after_s
        ):
            if tick.status == TickStatus.SKIPPED:
                quiet += 1
            elif tick.status != TickStatus.STARTED:
                busy += 1
    return quiet, busy
