"""Commands that only read work where nothing can be written; the others say why they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.errors import FMError, HomeError
from fm_platform.home import Home
from fm_platform.workspace import Workspace
from tests.support.disk import full_disk, read_only
from tests.upkeep.worlds import add, open_world

READING = (
    ["status"], ["log"], ["lineage"], ["show", "votes/words/2026-01-01"], ["models", "shop"],
    ["pins"], ["gc"], ["gc", "--json"], ["fsck"], ["branch", "list"],
    ["ledger", "export", "shop", "--format", "openlineage"],
)  # fmt: skip


@pytest.fixture
def built(home: Path, projects: Path) -> Workspace:
    ws = open_world(home.parent)
    for salt in (1, 2):
        raw = add(ws, "raw", "raw", "2026-01-01")
        votes = add(ws, "votes", "words", "2026-01-01", [raw], salt)
        add(ws, "merged_model", "merged_model", None, [votes], salt)
    ws.ledger.engine.dispose()
    return ws


def read_all(fm: CliRunner, to: Path) -> None:
    for words in READING:
        given = [*words, "--to", str(to)] if "export" in words else words
        done = fm.invoke(app, given)
        assert done.exit_code == 0, (words, done.output, done.exception)


def test_in_a_home_that_is_read_only(
    built: Workspace, home: Path, fm: CliRunner, tmp_path: Path
) -> None:
    with read_only(home):
        read_all(fm, tmp_path / "out")
        for words in (["pin", "merged_model"], ["branch", "create", "try"], ["gc", "--apply"]):
            with pytest.raises(HomeError, match="cannot be written"):
                fm.invoke(app, words, catch_exceptions=False)


def test_on_a_disk_that_is_full(
    built: Workspace, home: Path, fm: CliRunner, tmp_path: Path
) -> None:
    with full_disk(home):
        read_all(fm, tmp_path / "out")
        with pytest.raises(HomeError, match="No space left"):
            fm.invoke(app, ["pin", "merged_model"], catch_exceptions=False)


def test_a_file_that_changed_is_told_where_its_days_cannot_be_looked_up(
    built: Workspace, home: Path, projects: Path, tmp_path: Path, fm: CliRunner
) -> None:
    (tmp_path / "t.csv").write_text("text,day,label\n" + "it is late,2026-01-01,no\n" * 3)
    fm.invoke(app, ["init", "late", "--from", str(tmp_path / "t.csv")])

    with read_only(home):
        told = fm.invoke(app, ["status", "late"])

    assert told.exit_code == 0, told.exception
    assert "cannot be read, taken for what it held: the store cannot be written" in told.output
    assert "unbuilt  never built" in told.output


def test_a_full_disk_is_freed(built: Workspace, home: Path, fm: CliRunner) -> None:
    built.models.checkouts.clear()  # nothing but the space set aside is left to record with
    with full_disk(home):
        planned = json.loads(fm.invoke(app, ["gc", "--json"]).output)

        done = fm.invoke(app, ["gc", "--apply", "--json"])

        assert done.exit_code == 0, (done.output, done.exception)
        told = json.loads(done.output)
        assert [v["id"] for v in told["remove"]] == [v["id"] for v in planned["remove"]] != []
        assert (told["freed"]["models"], told["waiting"]) == (planned["bytes"]["models"], [])
        again = Workspace.open()
        assert set(again.ledger.removed()) == {v["id"] for v in planned["remove"]}
        again.ledger.engine.dispose()


def test_a_home_that_cannot_be_made_is_told(
    tmp_path: Path, fm: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FM_HOME", str(tmp_path / "file"))

    with pytest.raises(HomeError, match="FM_HOME cannot be written"):
        fm.invoke(app, ["log"], catch_exceptions=False)


def test_a_home_without_a_ledger_is_told(
    tmp_path: Path, fm: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    Home(tmp_path / "new").ensure()
    monkeypatch.setenv("FM_HOME", str(tmp_path / "new"))

    with read_only(tmp_path / "new"), pytest.raises(FMError, match="ledger"):
        fm.invoke(app, ["log"], catch_exceptions=False)
