"""`fm alerts`: what is wrong, what would repair it, and what people say of it."""

from __future__ import annotations

import getpass
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fm_platform.cli import render
from fm_platform.display import plain

if TYPE_CHECKING:
    from fm_platform.monitoring.life import Life, Rulings
    from fm_platform.stages.alerts import Desk
    from fm_platform.workspace import Workspace

alerts = typer.Typer(
    help="Alerts: what moved, why, what it costs, and the repairs.", no_args_is_help=True
)
Project = Annotated[str, typer.Argument(help="Name of a project under assets/defs/.")]
Id = Annotated[str, typer.Argument(help="Id of an alert, or its beginning.")]
Reason = Annotated[str, typer.Option(help="Why, in a few words.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@alerts.command("list")
def list_(
    project: Project,
    every: Annotated[bool, typer.Option("--all", help="Also what is closed or recorded.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the alerts that are open, the newest first."""
    desk = _desk(project, to_read=True)
    said = desk.rulings()
    found = [
        life
        for life in reversed(list(desk.lives().values()))
        if every or (life.is_open and said.severity(life.alert) != "record")
    ]
    if as_json:
        typer.echo(json.dumps([_json(life, said) for life in found], indent=1))
        return
    rows = [
        (
            life.alert.id, said.severity(life.alert), life.state, life.alert.since,
            life.alert.title,
        )
        for life in found
    ]  # fmt: skip
    empty = f"no alert of {project} is open" + ("" if every else "; --all shows closed ones")
    typer.echo(render.table(rows, ("id", "severity", "state", "since", "what")) if rows else empty)


@alerts.command()
def show(project: Project, alert: Id, as_json: AsJson = False) -> None:
    """Show one alert: evidence, impact, repairs, what was done, and how to answer it."""
    from fm_platform.stages.alert_story import story

    desk = _desk(project, to_read=True)
    life, said = desk.find(alert), desk.rulings()
    told = story(desk.ws.ledger, life)
    if as_json:
        typer.echo(json.dumps({**_json(life, said), "story": told}, indent=1))
    else:
        typer.echo(_text(project, life, said, told))


@alerts.command()
def approve(
    project: Project,
    alert: Id,
    repair: Annotated[int, typer.Option(help="Number of the repair, as shown.")] = 1,
    reason: Reason = "approved",
) -> None:
    """Let a repair run at the next tick of the sensor."""
    desk = _desk(project)
    life = desk.find(alert)
    desk.approve(life, repair, reason, getpass.getuser())
    typer.echo(f"approved: {plain(life.alert.repairs[repair - 1].title)}; the sensor starts it")


@alerts.command()
def accept(project: Project, alert: Id, reason: Reason) -> None:
    """Take this for the new normal: the same shift is silent from now on."""
    _rule(project, alert, "accepted", reason)


@alerts.command()
def snooze(
    project: Project,
    alert: Id,
    reason: Reason,
    days: Annotated[float, typer.Option(min=0.01, help="For how long.")] = 7.0,
) -> None:
    """Tell nobody and do nothing about this cause for some days."""
    _rule(project, alert, "snoozed", reason, days)


@alerts.command("raise")
def raise_(project: Project, alert: Id, reason: Reason) -> None:
    """Take this cause for one step graver than its impact says."""
    _rule(project, alert, "raised", reason)


@alerts.command()
def lower(project: Project, alert: Id, reason: Reason) -> None:
    """Take this cause for one step less grave than its impact says."""
    _rule(project, alert, "lowered", reason)


def _rule(project: str, alert: str, what: str, reason: str, days: float | None = None) -> None:
    from fm_platform.lineage.database import now

    desk = _desk(project)
    life = desk.find(alert)
    until = None if days is None else now() + timedelta(days=days)
    desk.rule(life, what, reason, getpass.getuser(), until)
    typer.echo(f"{what}: {plain(life.alert.title)}")


def alert_status(ws: Workspace, project: str) -> dict[str, Any]:
    """Return how many alerts are open, and every change of the policy with author and reason."""
    from fm_platform.monitoring.life import CHANGES, lives, rulings

    events = ws.ledger.alert_events(project)
    said = rulings(events)
    open_ = [x for x in lives(events).values() if x.is_open and said.severity(x.alert) != "record"]
    changes = [
        {
            "version": e.body["version"], "what": e.what, "cause": e.body["cause"],
            "until": e.body.get("until"), "actor": e.actor, "reason": e.reason,
            "at": e.at.isoformat(),
        }
        for e in events
        if e.what in CHANGES
    ]  # fmt: skip
    return {"open": len(open_), "changes": changes}


def _desk(project: str, *, to_read: bool = False) -> Desk:
    from fm_platform.stages.alerts import Desk
    from fm_platform.workspace import Workspace, find_project

    ws = Workspace.to_read() if to_read else Workspace.open()
    return Desk(ws, find_project(project))


def _json(life: Life, said: Rulings) -> dict[str, Any]:
    return {
        **life.alert.to_json(), "state": life.state, "said_severity": said.severity(life.alert),
        "run": life.run, "attempt": life.attempt,
        "events": [
            {
                "what": e.what, "at": e.at.isoformat(), "actor": e.actor, "reason": e.reason,
                "body": {k: v for k, v in e.body.items() if k != "alert"},
            }
            for e in life.events
        ],
    }  # fmt: skip


def _text(project: str, life: Life, said: Rulings, told: dict[str, Any]) -> str:
    from fm_platform.stages.alert_story import lines as story_lines
    from fm_platform.stages.alerts import MACHINE

    alert = life.alert
    lines = [
        plain(alert.title, 400),
        f"{alert.id}  severity {said.severity(alert)}  {life.state}  since {alert.since}",
        *(f"  {plain(words, 400)}" for words in alert.words),
        "repairs:",
    ]
    for number, repair in enumerate(alert.repairs, 1):
        takes = "a run does it" if repair.kind in MACHINE else "people must act"
        takes = takes if repair.minutes is None else f"about {repair.minutes:g} min"
        lines.append(f"  {number} {plain(repair.title)}: {plain(repair.reason)} ({takes})")
    lines.append("what happened:")
    for event in life.events:
        words = plain(event.reason) or "-"
        lines.append(
            f"  {event.at:%Y-%m-%d %H:%M:%S} {event.what} by {plain(event.actor)}: {words}"
        )
    if did := story_lines(told):
        lines += ["what was done and what came of it:", *(f"  {plain(line, 400)}" for line in did)]
    ask = f"{project} {alert.id}"
    lines += ["to answer:", f"  fm alerts approve {ask} --repair N"]
    lines += [f"  fm alerts {verb} {ask} --reason '...'" for verb in ("accept", "raise", "lower")]
    lines.append(f"  fm alerts snooze {ask} --days 7 --reason '...'")
    return "\n".join(lines)
