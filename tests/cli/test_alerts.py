from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli import alerts as commands
from fm_platform.cli.app import app
from fm_platform.stages.alerts import Desk
from fm_platform.workspace import Workspace
from tests.stages.test_alerts import alert, desk_of, ws  # noqa: F401 # a fixture


@pytest.fixture
def desk(ws: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:  # noqa: F811
    found = desk_of(ws)
    monkeypatch.setattr(commands, "_desk", lambda project: found)
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
