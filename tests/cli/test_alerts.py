from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli import alerts as commands
from fm_platform.cli.app import app
from fm_platform.lineage import Produced, Recipe, RunContext
from fm_platform.lineage.database import now
from fm_platform.stages.alerts import Desk, Work
from fm_platform.workspace import Workspace
from tests.stages.test_alerts import alert, desk_of, ws  # noqa: F401 # a fixture


@pytest.fixture
def desk(ws: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:  # noqa: F811
    found = desk_of(ws)
    monkeypatch.setattr(commands, "_desk", lambda project, **_how: found)
    return found


def test_list_show_accept(desk: Desk) -> None:
    fm = CliRunner()
    assert "no alert of shop is open" in fm.invoke(app, ["alerts", "list", "shop"]).output
    desk.open([alert()], 1)
    (listed,) = json.loads(fm.invoke(app, ["alerts", "list", "shop", "--json"]).output)

    shown = fm.invoke(app, ["alerts", "show", "shop", listed["id"][:6]]).output
    for verb in ("approve", "accept", "snooze", "raise", "lower"):
        assert f"fm alerts {verb} shop {listed['id']}" in shown
    done = fm.invoke(app, ["alerts", "accept", "shop", listed["id"], "--reason", "it is meant"])

    assert done.exit_code == 0
    (change,) = commands.alert_status(desk.ws, "shop")["changes"]
    assert (change["what"], change["reason"], change["version"]) == ("accepted", "it is meant", 1)
    assert "no alert of shop is open" in fm.invoke(app, ["alerts", "list", "shop"]).output


def test_show_tells_what_was_done_and_what_came_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Desk, "work", lambda self, repair: Work(repair.days, ("raw",), True))
    desk.open([alert()], 1)
    (life,) = desk.due()
    desk.running(life, "b1")
    desk.finished(desk.find(life.alert.id), True, "done")
    (checked,) = desk.checking()
    run = RunContext(asked_by=f"backfill:b1 alert:{life.alert.id}")
    recipe = Recipe("shop", "merged_model", "merged_model", None, (), "c", {}, "e", 0)
    desk.ws.ledger.record(recipe, Produced("h", {}), run, now(), now())
    desk.close(checked, True, "")

    shown = CliRunner().invoke(app, ["alerts", "show", "shop", life.alert.id]).output
    told = CliRunner().invoke(app, ["alerts", "show", "shop", life.alert.id, "--json"]).output

    for words in ("action 1: Train mail", "run: b1", "not repaired: there are no findings",
                  "made: merged_model"):  # fmt: skip
        assert words in shown
    story = json.loads(told)["story"]
    assert story["actions"][0]["outcome"]["what"] == "not_repaired"
    assert [made["kind"] for made in story["versions"]] == ["merged_model"]
