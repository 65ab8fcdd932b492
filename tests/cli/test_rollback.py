from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from tests.universe.worlds import DAYS, EDITED, SPEC, World, moment


@pytest.fixture
def world(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World.make(tmp_path)
    assert made.home == home
    monkeypatch.setenv("FM_PROJECTS", str(made.root))
    return made


def test_the_whole_path(world: World, fm: CliRunner) -> None:
    world.run(DAYS[:1])
    then = moment().isoformat()
    world.declare(EDITED)
    world.run(DAYS[:2])

    told = fm.invoke(app, ["rollback", "small", "--to", then, "--dry-run"], catch_exceptions=False)
    assert "file defs.yaml: as it was then" in told.output
    assert (world.folder / "defs.yaml").read_text() == EDITED

    done = fm.invoke(app, ["rollback", "small", "--to", then], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"fm run small --to {DAYS[0]} would reuse all of it" in done.output
    assert (world.folder / "defs.yaml").read_text() == SPEC
    (undo,) = [line for line in done.output.splitlines() if line.startswith("to undo it: fm ")]

    again = fm.invoke(app, ["rollback", "small", "--to", then], catch_exceptions=False)
    assert "nothing to change" in again.output

    words = undo.removeprefix("to undo it: fm ").split()
    back = fm.invoke(app, [*words, "--json"], catch_exceptions=False)
    answer = json.loads(back.stdout)
    assert answer["applied"]
    assert answer["files"]["written"] == ["defs.yaml"]
    assert {r["partition"] for r in answer["restored"]} >= {DAYS[0], DAYS[1]}
    log = fm.invoke(app, ["log", "-p", "small"], catch_exceptions=False)
    assert log.output.count("rollback") >= 2


def test_mistakes_are_told(world: World, fm: CliRunner) -> None:
    world.run(DAYS[:1])
    for words, said in (
        (["small", "--to", "yesterday"], "this is no time"),
        (["small", "--to", "2020-01-01"], "nothing of small was in use"),
        (["../small", "--to", "2020-01-01"], "the ledger holds no version of '../small'"),
    ):
        result = fm.invoke(app, ["rollback", *words])
        assert result.exit_code != 0
        assert said in str(result.exception)
    assert os.listdir(world.root / "assets" / "defs") == ["small"]
