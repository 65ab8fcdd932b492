"""Who watches the monitors: one that saw nothing, fell silent, or can never fire is an alert."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from fm_platform.errors import SourceError
from fm_platform.hashing import fingerprint
from fm_platform.lineage.database import now
from fm_platform.monitoring.life import LATE, MONITOR
from fm_platform.monitoring.records import Alert, Cause, Estimate, Impact, Repair
from fm_platform.spec.alerts import Alerts
from fm_platform.stages.alerts import Desk
from fm_platform.stages.probe import project_days, source_ids, sources_read
from fm_platform.stages.raw import connectors

SILENT_INTERVALS = 2
LEAST_INTERVAL_S = 30
"""A daemon goes round its sensors about so often: shorter intervals than that are not kept."""
_DAILY = ("raw", "cleaned", "profile", "findings")
_NOTHING = Impact(Estimate(0.0, 0.0, 0.0, "what is not watched costs nothing that is known"))


@dataclass(frozen=True)
class FailedDay:
    """A day whose newest run failed.

    Attributes:
        day: The day.
        run: Id of the run.
        ended_s: When it ended, seconds since 1970.
        why: In words.
    """

    day: str
    run: str
    ended_s: float
    why: str


def up_since(before: str | None, last_s: float | None, at_s: float, policy: Alerts) -> float:
    """Return since when the daemon goes round without a gap, seconds since 1970.

    Args:
        before: What this returned at the last tick of the sensor that asks; None: it never ticked.
        last_s: When it last ticked, seconds since 1970; None: never.
        at_s: Now, seconds since 1970.
        policy: Says how often sensors tick.
    """
    if before is None or last_s is None or at_s - last_s > _limit_s(policy):
        return at_s
    return float(before)


def watch_monitors(
    desk: Desk,
    last_ticks: Mapping[str, float | None],
    up_s: float,
    failed: Iterable[FailedDay] = (),
) -> None:
    """Open an alert for each monitor that does not do its work; close those that do it again.

    A day that could not be built is one that nobody watches.

    A daemon that was stopped has its sensors tick again in turn: a sensor is silent only when it
    has not ticked since the daemon went round long enough.

    Args:
        desk: The alerts of the project.
        last_ticks: Sensor -> when it last ticked, seconds since 1970; None: never.
        up_s: Since when the daemon goes round, see `up_since`.
        failed: Days whose newest run failed.
    """
    found = [
        *failing_monitors(desk, last_ticks, up_s, time.time()), *blind_checks(desk),
        *unreadable_sources(desk), *refused_rows(desk), *unbuilt_days(desk, failed),
    ]  # fmt: skip
    desk.open(found, 0)
    standing = {alert.cause.key for alert in found}
    for life in desk.lives().values():
        cause = life.alert.cause
        if life.is_open and cause.kind == MONITOR and cause.key not in standing:
            once = f"outcome:{len(life.events)}"
            desk.note(life.alert.id, "repaired", once, None, "it is so no longer")


def failing_monitors(
    desk: Desk, last_ticks: Mapping[str, float | None], up_s: float, at_s: float
) -> list[Alert]:
    """Return an alert for each monitor that does not do its work, see `watch_monitors`."""
    day = now().date().isoformat()
    found = [
        _alert(desk, day, "policy", words, "Change the `alerts` part of the project file")
        for words in desk.policy.never_fires()
    ]
    for name, last_s in sorted(last_ticks.items()):
        if at_s - max(last_s or 0.0, up_s) > _limit_s(desk.policy):
            told, silence = "never looked", "silent"
            if last_s is not None:
                told = f"has not looked for {(at_s - last_s) / 60:.0f} minutes"
                silence = f"silent since {datetime.fromtimestamp(last_s, timezone.utc):%FT%TZ}"
            words = f"sensor {name} {told}; it should every {desk.policy.check_every_s} s"
            repair = "Start the sensor, and its daemon; where its ticks fail, Dagster says why"
            found.append(_alert(desk, day, name, words, repair, silence))
    return found


def blind_checks(desk: Desk) -> list[Alert]:
    """Return an alert for each newest day whose findings rest on no row or no test."""
    found = []
    for version in desk.ws.ledger.all_latest(desk.name, "findings")[-1:]:
        tests = version.metrics.get("numbers", {}).get("tests")
        if version.rows == 0 or tests == 0:
            words = (
                f"the check of {version.partition} saw {'no row' if tests else 'nothing to test'}"
            )
            day = version.partition or ""
            found.append(_alert(desk, day, "findings", words, "See why nothing came"))
    return found


def unreadable_sources(desk: Desk) -> list[Alert]:
    """Return an alert for each source of which nobody can say what it holds.

    No day of it can be built, and rows that come late are not seen.
    """
    found = []
    for day in project_days(desk.project)[-1:]:
        for name, connector in connectors(desk.ws, desk.project, day).items():
            try:
                connector.content_id(day)
            except SourceError as error:
                where = f" ({error.where})" if error.where else ""
                repair = error.next_step or "See why the source cannot be read"
                found.append(_alert(desk, day, name, f"{error.message}{where}", repair))
    return found


def refused_rows(desk: Desk) -> list[Alert]:
    """Return an alert for each day whose rows came late and could not be brought in.

    Nobody is told of late rows as such: that they were not taken is what people must know.
    """
    last = {life.alert.day: life for life in desk.lives().values() if life.alert.cause.kind == LATE}
    found = []
    for day, life in sorted(last.items()):
        raw = desk.ws.ledger.latest(desk.name, "raw", "raw", day)
        if life.state != "not_repaired" or raw is None:
            continue
        read = sources_read(raw)
        try:
            now = source_ids(desk.ws, desk.project, day)
        except SourceError:
            continue  # there is an alert for the source
        if changed := sorted(name for name in now if now[name] != read.get(name)):
            names = ", ".join(changed)
            words = f"{names}: rows of {day} came late or were corrected, and were not taken"
            repair = f"See why in run {life.run} in Dagster, and have {names} delivered again"
            found.append(_alert(desk, day, f"rows of {day}", words, repair))
    return found


def unbuilt_days(desk: Desk, failed: Iterable[FailedDay]) -> list[Alert]:
    """Return an alert for each day whose run failed, unless something of it was made since."""
    found = []
    for one in failed:
        made = (desk.ws.ledger.latest(desk.name, kind, kind, one.day) for kind in _DAILY)
        if not any(v is not None and v.created_at.timestamp() > one.ended_s for v in made):
            repair = (
                f"See run {one.run} in Dagster, mend the cause, then"
                f" `fm run {desk.name} --from {one.day} --to {one.day}`"
            )
            words = f"the run of {one.day} failed: {one.why}"
            found.append(_alert(desk, one.day, f"run of {one.day}", words, repair))
    return found


def _limit_s(policy: Alerts) -> float:
    return SILENT_INTERVALS * max(policy.check_every_s, LEAST_INTERVAL_S)


def _alert(
    desk: Desk, day: str, name: str, words: str, repair: str, silence: str | None = None
) -> Alert:
    # however long it has been silent, it is one alert; silent again, it is another
    value = silence or fingerprint(words.partition(";")[0])[:8]
    cause = Cause(MONITOR, name, value, (name,))
    return Alert(
        desk.name, day, day, cause, words, (words,), (), _NOTHING, "medium",
        (Repair("fix_upstream", repair, "A monitor that does not watch is no monitor."),),
    )  # fmt: skip
