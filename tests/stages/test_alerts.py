"""The life of an alert: opened once, repaired once, judged, accepted."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.lineage import Produced, Recipe, RunContext
from fm_platform.lineage.database import now
from fm_platform.monitoring.life import Life
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

    assert desk.open([alert("2026-01-05", since="2026-01-04")], 3) == []

    ((name, life),) = desk.lives().items()  # since another day by its findings, and still that one
    assert (life.alert.day, life.alert.id) == ("2026-01-05", name)
    assert [event.what for event in life.events] == ["opened", "seen", "seen", "seen"]


def repaired(desk: Desk) -> Life:
    """Open an alert and have its repair run."""
    desk.open([alert()], 1)
    (asked,) = desk.due()
    desk.running(asked, "b1")
    desk.finished(desk.find(asked.alert.id), True, "done")
    return desk.find(asked.alert.id)


def findings(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, again: list[Alert], day: str = "2026-01-03"
) -> None:
    """Let the ledger hold these alerts of the day, as another look at it would find them."""
    told = {"alerts": [one.to_json() for one in again]}
    recipe = Recipe("shop", "findings", "findings", day, (), "c", {"again": told}, "e", 0)
    made = Produced("h", told)
    desk.ws.ledger.record(recipe, made, RunContext(), now(), now())


def test_what_is_over_is_closed_and_is_another_alert_when_it_comes_back(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of(ws, runs_per_day=0)
    findings(desk, monkeypatch, [alert()])
    after = desk.take_in(0)
    desk.due()
    for day in ("2026-01-04", "2026-01-05"):
        findings(desk, monkeypatch, [], day)
        after = desk.take_in(after)
    (first,) = desk.lives().values()
    assert first.state == "waits"

    findings(desk, monkeypatch, [], "2026-01-06")
    after = desk.take_in(after)

    assert desk.find(first.alert.id).state == "repaired"
    assert desk.find(first.alert.id).events[-1].reason.startswith("it is over: not found on 2026-")
    findings(desk, monkeypatch, [alert("2026-01-07", since="2026-01-07")], "2026-01-07")
    desk.take_in(after)
    assert [life.state for life in desk.lives().values()] == ["repaired", "open"]


def test_an_alert_ends_when_its_day_is_looked_at_again_and_it_is_gone(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of(ws, runs_per_day=0)
    findings(desk, monkeypatch, [alert()])
    after = desk.take_in(0)

    findings(desk, monkeypatch, [])
    desk.take_in(after)

    (life,) = desk.lives().values()
    assert life.state == "repaired"
    assert "looked at again" in life.events[-1].reason


def test_what_runs_is_judged_when_it_ended(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_of(ws)
    life = repaired(desk)

    findings(desk, monkeypatch, [])
    desk.take_in(0)

    assert desk.find(life.alert.id).state == "finished"


def test_a_repair_is_asked_for_once_and_looked_at_again_once(ws: Workspace) -> None:
    desk = desk_of(ws)
    desk.open([alert()], 1)

    (asked,) = desk.due()
    assert asked.repair == RETRAIN
    assert [life.attempt for life in desk.due()] == [1]  # asked and not yet begun: still due
    desk.running(asked, "b1")
    assert desk.due() == []
    (life,) = desk.lives().values()
    assert desk.checking() == []
    desk.finished(life, True, "done")

    (once,), (twice,) = desk.checking(), desk.checking()
    assert (once.alert.id, once.state) == (twice.alert.id, "checking")
    assert [e.what for e in twice.events].count("checking") == 1


@pytest.mark.parametrize(
    ("again", "ruling", "state"),
    [
        ([alert()], None, "not_repaired"),
        ([alert(loss=9.0)], None, "made_worse"),
        ([alert(severity="record")], None, "repaired"),
        ([alert(severity="low")], "lowered", "repaired"),
        ([alert(severity="record")], "raised", "not_repaired"),
        ([], None, "repaired"),
    ],
)
def test_did_it_help(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, again: list[Alert], ruling: str, state: str
) -> None:
    desk = desk_of(ws)
    work = Work(("2026-01-03",), ("raw",), models=False)
    monkeypatch.setattr(module.Desk, "work", lambda self, repair: work)
    life = repaired(desk)
    findings(desk, monkeypatch, again)
    if ruling:
        desk.rule(life, ruling, "so we say", "ann")

    (checked,) = desk.checking()
    desk.close(checked, True, "")

    assert desk.find(life.alert.id).state == state
    assert desk.checking() == []


def test_a_look_that_failed_has_repaired_nothing(ws: Workspace) -> None:
    desk = desk_of(ws)
    repaired(desk)
    (life,) = desk.checking()

    desk.close(life, False, "out of disk")

    closed = desk.find(life.alert.id)
    assert closed.state == "not_repaired"
    assert "out of disk" in closed.events[-1].reason


def test_raised_from_what_nobody_is_told_of_it_acts(ws: Workspace) -> None:
    desk = desk_of(ws)
    desk.open([alert(severity="record")], 1)
    assert desk.due() == []
    (life,) = desk.lives().values()
    assert life.state == "open"

    desk.rule(life, "raised", "it is our largest customer", "ann")

    assert [due.alert.id for due in desk.due()] == [life.alert.id]
    assert desk.rulings().severity(desk.find(life.alert.id).alert) == "low"


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


def test_a_tick_reads_the_alerts_once_however_many_wait(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of(ws, runs_per_day=0)
    desk.open([alert(name=f"source{i}") for i in range(12)], 1)
    desk.due()
    reads: list[str] = []
    read = type(ws.ledger).alert_events

    def counted(self: object, project: str, *rest: object, **more: object) -> object:
        reads.append(project)
        return read(self, project, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(ws.ledger), "alert_events", counted)

    assert desk.due() == []
    assert len(reads) <= 2


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

    assert [desk.due() for _tick in range(3)] == [[], [], []]
    (life,) = desk.lives().values()
    assert [event.what for event in life.events] == ["opened", "waits"]  # said once

    desk.approve(life, 2, "please", "ann")
    assert [desk.due() for _tick in range(2)] == [[], []]
    assert [e.what for e in desk.find(life.alert.id).events][2:] == ["approved", "waits"]
