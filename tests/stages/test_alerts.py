"""The life of an alert: opened once, repaired once, judged, accepted."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.lineage.database import now
from fm_platform.monitoring.records import Alert, Cause, Estimate, Impact, Repair
from fm_platform.spec.alerts import Alerts
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import alerts as module
from fm_platform.stages.alerts import Desk, Work
from fm_platform.workspace import Workspace

RETRAIN = Repair("retrain", "Train mail", "new rows", ("2026-01-03",), ("adapters",),
                 minutes=5.0, automatic=True)  # fmt: skip
UPSTREAM = Repair("fix_upstream", "Ask", "it is so")


def alert(
    day: str = "2026-01-03", name: str = "amazon", loss: float = 6.0, **fields: object
) -> Alert:
    given: dict[str, object] = {
        "severity": "medium", "repairs": (UPSTREAM, RETRAIN), "since": "2026-01-03", **fields,
    }  # fmt: skip
    return Alert(
        project="shop", day=day, cause=Cause("source_came", name, None, (name,)),
        title=f"`source`: {name} came", words=("w",), findings=(),
        impact=Impact(Estimate(-loss, -loss - 1, -loss + 1, "confidence")), **given,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


@pytest.fixture(autouse=True)
def _work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Desk, "work", lambda self, repair: Work(repair.days, ("raw",), True))


def desk_of(ws: Workspace, **policy: object) -> Desk:
    rules = Alerts(automatic=("retrain",), **policy)  # type: ignore[arg-type]
    spec = ProjectSpec(
        name="shop", taxonomy={"classes": ["a", "b"]}, calendar={"start": date(2026, 1, 1)},
        sources=[{"name": "mail"}], alerts=rules,
    )  # type: ignore[arg-type] # fmt: skip
    return Desk(ws, LoadedProject(spec, ws.home.root, ws.home.root / "defs.yaml"))


def test_one_cause_is_one_alert_however_often_it_is_seen(ws: Workspace) -> None:
    desk = desk_of(ws)

    assert len(desk.open([alert()], 1)) == 1
    assert desk.open([alert()], 1) == []
    assert desk.open([alert("2026-01-04", since="2026-01-04")], 2) == []

    (life,) = desk.lives().values()
    assert life.alert.day == "2026-01-04"
    assert [event.what for event in life.events] == ["opened", "seen", "seen"]


def test_a_repair_is_asked_for_once_and_judged(ws: Workspace) -> None:
    desk = desk_of(ws)
    desk.open([alert()], 1)

    (asked,) = desk.due()
    assert asked.repair == RETRAIN
    assert [life.attempt for life in desk.due()] == [1]  # asked and not yet begun: still due
    desk.running(asked, "b1")
    assert desk.due() == []
    (life,) = desk.lives().values()
    desk.finished(life, True, "done")
    desk.judge("2026-01-03", 1, [])
    assert desk.find(life.alert.id).state == "repaired"
    assert desk.due() == []


@pytest.mark.parametrize(
    ("again", "state"),
    [([], "repaired"), ([alert()], "not_repaired"), ([alert(loss=9.0)], "made_worse")],
)
def test_did_it_help(ws: Workspace, again: list[Alert], state: str) -> None:
    desk = desk_of(ws)
    desk.open([alert()], 1)
    (life,) = desk.due()
    desk.running(life, "b1")
    desk.finished(desk.find(life.alert.id), True, "done")

    desk.judge("2026-01-03", 1, again)

    assert desk.find(life.alert.id).state == state


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"runs_per_day": 1}, "1 of 1 runs"),
        ({"minutes_per_day": 7.0}, "5 of 7 minutes"),
        ({"least": "high"}, "severity high"),
    ],
)
def test_what_the_budget_does_not_allow_waits_and_says_why(
    ws: Workspace, policy: dict[str, object], why: str
) -> None:
    desk = desk_of(ws, **policy)
    desk.open([alert(), alert(name="nyt")], 1)

    desk.due()

    waiting = [life for life in desk.lives().values() if life.state == "waits"]
    assert why in waiting[-1].events[-1].reason


def test_a_clock_that_is_set_back_gives_no_second_budget(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of(ws, runs_per_day=1)
    desk.open([alert()], 1)
    assert len(desk.due()) == 1

    monkeypatch.setattr(module, "now", lambda: now() - timedelta(days=3))
    desk.open([alert(name="nyt")], 2)

    assert [life.alert.cause.name for life in desk.due()] == ["amazon"]


def test_an_accepted_shift_is_silent(ws: Workspace) -> None:
    desk = desk_of(ws)
    desk.open([alert()], 1)
    (life,) = desk.lives().values()

    desk.rule(life, "accepted", "we sell there now", "ann")

    assert desk.open([alert("2026-01-09", since="2026-01-09")], 2) == []
    assert desk.due() == []
    ruling = desk.rulings().accepted[life.alert.cause.key]
    assert (ruling.actor, ruling.reason, ruling.body["version"]) == ("ann", "we sell there now", 1)


def test_snoozed_raised_and_lowered(ws: Workspace) -> None:
    desk = desk_of(ws)
    desk.open([alert()], 1)
    (life,) = desk.lives().values()

    desk.rule(life, "snoozed", "known", "ann", now() + timedelta(days=1))
    assert desk.due() == []
    desk.rule(life, "lowered", "it is small", "ann")
    assert desk.rulings().severity(life.alert) == "low"
    with pytest.raises(FMError, match="say why"):
        desk.rule(life, "raised", " ", "ann")


def test_approval(ws: Workspace) -> None:
    desk = desk_of(ws, runs_per_day=0)
    desk.open([alert()], 1)
    assert desk.due() == []
    (life,) = desk.lives().values()
    with pytest.raises(FMError, match="no repair that a run can do"):
        desk.approve(life, 1, "please", "ann")

    desk.approve(life, 2, "please", "ann")

    assert [due.repair for due in desk.due()] == [RETRAIN]


def test_a_repair_that_would_change_nothing_is_not_run(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.Desk, "work", lambda self, repair: Work((), ("raw",), False))
    desk = desk_of(ws)
    desk.open([alert()], 1)

    assert desk.due() == []
    (life,) = desk.lives().values()
    assert life.state == "waits"
