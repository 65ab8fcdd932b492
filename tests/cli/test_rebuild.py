from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.errors import LedgerError
from fm_platform.workspace import Workspace
from tests.upkeep.worlds import add


def test_check_then_loss_then_rebuild(fm: CliRunner, home: Path) -> None:
    ws = Workspace.open()
    add(ws, "raw", "raw", "2026-01-01")
    said = fm.invoke(app, ["ledger", "rebuild", "--check"])
    assert said.exit_code == 0, said.output
    assert "the ledger says what its history says" in said.output
    assert "ledger and stores agree" in said.output

    ws.ledger.engine.dispose()
    for beside in home.glob("ledger.db-*"):  # they could heal it
        beside.unlink()
    (home / "ledger.db").write_bytes(b"garbage" * 900)
    with pytest.raises(LedgerError, match="fm ledger rebuild"):
        fm.invoke(app, ["pins"], catch_exceptions=False)
    said = fm.invoke(app, ["ledger", "rebuild"])
    assert said.exit_code == 0, said.output
    assert "ledger.db.before-rebuild" in said.output

    told = json.loads(fm.invoke(app, ["ledger", "rebuild", "--check", "--json"]).output)
    assert (told["versions"], told["differences"], told["missing"]) == (1, [], [])


def test_lost_bytes_end_with_code_1(fm: CliRunner) -> None:
    ws = Workspace.open()
    votes = add(ws, "votes", "words", "2026-01-01")
    ws.columns.remove(votes.content_hash)

    said = fm.invoke(app, ["ledger", "rebuild", "--check"])

    assert said.exit_code == 1
    assert "missing in the stores: shop: votes/words/2026-01-01#1" in said.output


def test_an_empty_home(fm: CliRunner) -> None:
    assert fm.invoke(app, ["ledger", "rebuild", "--check"]).exit_code == 0
    with pytest.raises(LedgerError, match="no history"):
        fm.invoke(app, ["ledger", "rebuild"], catch_exceptions=False)
