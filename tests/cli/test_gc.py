from __future__ import annotations

import json
from gc import collect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.errors import RefError
from fm_platform.workspace import Workspace
from tests.upkeep.worlds import add, is_there


def test_an_empty_home(fm: CliRunner) -> None:
    assert "nothing to remove" in fm.invoke(app, ["gc"]).output
    assert "nothing is pinned" in fm.invoke(app, ["pins"]).output
    assert json.loads(fm.invoke(app, ["pins", "--json"]).output) == []


def test_dry_run_then_removal(fm: CliRunner) -> None:
    ws = Workspace.open()
    old, new = (add(ws, "votes", "words", "2026-01-01", [], n) for n in (1, 2))

    dry = fm.invoke(app, ["gc"]).output
    told = json.loads(fm.invoke(app, ["gc", "--json"]).output)

    assert "nothing was removed: fm gc --apply does it" in dry
    assert "would free" in dry
    assert [v["content_hash"] for v in told["remove"]] == [old.content_hash]
    assert told["applied"] is False
    assert is_there(ws, old)

    done = fm.invoke(app, ["gc", "--apply"])
    assert done.exit_code == 0, done.output
    assert "freed" in done.output
    assert (is_there(ws, old), is_there(ws, new)) == (False, True)
    assert "by fm gc" in fm.invoke(app, ["show", old.content_hash[:12]]).output
    assert "no damage found" in fm.invoke(app, ["fsck"]).output
    again = json.loads(fm.invoke(app, ["gc", "--apply", "--json"]).output)
    assert (again["applied"], again["remove"]) == (True, [])


def test_what_is_freed_was_told_before(fm: CliRunner) -> None:
    ws = Workspace.open()
    ws.ledger.pin(add(ws, "merged_model", "merged_model").id, reason="", actor="me")
    for salt in (1, 2):
        add(ws, "votes", "words", "2026-01-01", [], salt)
    (ws.models.objects._incoming / "half").write_bytes(b"half")
    del ws  # it holds the model open
    collect()

    told = json.loads(fm.invoke(app, ["gc", "--json"]).output)
    done = json.loads(fm.invoke(app, ["gc", "--apply", "--json"]).output)

    assert done["freed"]["checkouts"] > done["freed"]["models"] == 4
    unknown = {"mlflow", "history", "databases"}
    assert told["bytes"] == {k: v for k, v in done["freed"].items() if k not in unknown}
    assert done["bytes"] == told["bytes"]


def test_what_cannot_be_known_before_is_named(fm: CliRunner) -> None:
    ws = Workspace.open()
    for salt in (1, 2):
        add(ws, "merged_model", "merged_model", None, [], salt)

    told = fm.invoke(app, ["gc"]).output

    assert (
        "known only afterwards: what comes of MLflow's files of 1 models and evaluations, "
        "compressing history and databases\n"
    ) in told


def test_a_home_where_only_checkouts_go_is_not_said_to_be_clean(fm: CliRunner) -> None:
    ws = Workspace.open()
    ws.ledger.pin(add(ws, "merged_model", "merged_model").id, reason="", actor="me")
    del ws
    collect()

    assert "would free" in fm.invoke(app, ["gc"]).output


def test_pins_keep_and_are_listed(fm: CliRunner) -> None:
    ws = Workspace.open()
    old = add(ws, "votes", "words", "2026-01-01", [], 1)
    add(ws, "votes", "words", "2026-01-01", [], 2)

    said = fm.invoke(app, ["pin", old.content_hash[:12], "--reason", "\x1b[31maudit"])
    assert said.exit_code == 0, said.output
    assert "pinned votes/words/2026-01-01#1" in said.output
    assert "[pinned]" in fm.invoke(app, ["show", old.content_hash[:12]]).output
    assert "pinned already" in fm.invoke(app, ["pin", old.content_hash[:12]]).output
    assert "\x1b" not in fm.invoke(app, ["pins"]).output
    fm.invoke(app, ["gc", "--apply"])
    assert is_there(ws, old)

    assert "unpinned" in fm.invoke(app, ["unpin", old.content_hash[:12]]).output
    assert "is not pinned" in fm.invoke(app, ["unpin", old.content_hash[:12]]).output
    assert len(json.loads(fm.invoke(app, ["pins", "--all", "--json"]).output)) == 1
    fm.invoke(app, ["gc", "--apply"])
    assert not is_there(ws, old)
    assert "a run of its recipe" in fm.invoke(app, ["pin", old.content_hash[:12]]).output


def test_an_unknown_reference_is_refused(fm: CliRunner, home: Path) -> None:
    with pytest.raises(RefError):
        fm.invoke(app, ["pin", "nothing"], catch_exceptions=False)
