"""`fm models`."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.workspace import Workspace
from tests.lineage.simulated import Simulation, make_spec


def test_models_are_listed_with_their_base(fm: CliRunner, home: Path) -> None:
    world = Simulation(Workspace.open().ledger, make_spec(days=2))
    world.base = "a" * 64
    world.run()

    told = fm.invoke(app, ["models", "shop"])
    body = json.loads(fm.invoke(app, ["models", "shop", "--json"]).output)

    assert told.exit_code == 0, told.output
    assert "adapter/mail#1" in told.output
    assert "a" * 12 in told.output
    assert [m["kind"] for m in body] == ["start", "adapter", "adapter", "merged_model"]
    assert all(len(m["evaluations"]) == 1 for m in body)


def test_no_model_says_so(fm: CliRunner, home: Path) -> None:
    told = fm.invoke(app, ["models", "nobody"])

    assert told.exit_code == 0
    assert told.output == "no model yet: fm run nobody\n"
    assert json.loads(fm.invoke(app, ["models", "nobody", "--json"]).output) == []
