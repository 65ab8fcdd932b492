"""`fm ledger export`, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.errors import FMError, RefError
from fm_platform.stages.export.conformance import problems
from fm_platform.workspace import Workspace
from tests.stages.diff.worlds import build_day, write_project


@pytest.fixture
def built(home: Path, tmp_path: Path, projects: Path) -> Workspace:
    ws = Workspace.open()
    build_day(ws, write_project(tmp_path / "small"))
    return ws


def test_events_are_written_one_a_line(built: Workspace, fm: CliRunner, tmp_path: Path) -> None:
    to = tmp_path / "new" / "folder"
    told = fm.invoke(app, ["ledger", "export", "small", "--to", str(to), "--format", "openlineage"])

    assert told.exit_code == 0, told.output
    events = [json.loads(line) for line in (to / "openlineage.ndjson").read_text().splitlines()]
    assert len(events) == 2 * len(built.ledger.versions("small"))
    assert [p for event in events for p in problems(event)] == []
    assert f"{len(events)} events that conform" in told.output
    assert sorted(p.name for p in to.iterdir()) == ["openlineage.ndjson"]


def test_a_second_export_is_the_same_file(built: Workspace, fm: CliRunner, tmp_path: Path) -> None:
    words = [
        "ledger",
        "export",
        "small",
        "--to",
        str(tmp_path),
        "--format",
        "openlineage",
        "--json",
    ]
    first = json.loads(fm.invoke(app, words).output)
    before = (tmp_path / "openlineage.ndjson").read_bytes()
    second = json.loads(fm.invoke(app, words).output)

    assert (
        first == second == {"project": "small", "openlineage.ndjson": first["openlineage.ndjson"]}
    )
    assert (tmp_path / "openlineage.ndjson").read_bytes() == before


def test_nothing_new_is_an_empty_file(built: Workspace, fm: CliRunner, tmp_path: Path) -> None:
    words = ["ledger", "export", "small", "--to", str(tmp_path), "--format", "openlineage"]
    told = fm.invoke(app, [*words, "--since", "now"])

    assert told.exit_code == 0, told.output
    assert (tmp_path / "openlineage.ndjson").read_text() == ""


def test_without_a_model_the_card_is_an_error(
    built: Workspace, fm: CliRunner, tmp_path: Path
) -> None:
    told = fm.invoke(app, ["ledger", "export", "small", "--to", str(tmp_path), "--format", "card"])

    assert isinstance(told.exception, RefError)
    assert not (tmp_path / "README.md").exists()


def test_events_do_not_wait_for_a_card(built: Workspace, fm: CliRunner, tmp_path: Path) -> None:
    told = fm.invoke(app, ["ledger", "export", "small", "--to", str(tmp_path / "out")])

    assert isinstance(told.exception, RefError)  # there is no champion yet
    assert "events that conform" in told.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["openlineage.ndjson"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody", "--format", "openlineage"], "holds nothing of 'nobody'"),
        (["small", "--format", "pdf"], "no such format"),
        (["small", "--at", "yesterdayish"], "this is no time"),
    ],
)
def test_mistakes_are_told(
    built: Workspace, fm: CliRunner, tmp_path: Path, words: list[str], message: str
) -> None:
    told = fm.invoke(app, ["ledger", "export", *words, "--to", str(tmp_path / "x")])

    assert isinstance(told.exception, FMError)
    assert message in str(told.exception)
    assert not (tmp_path / "x" / "openlineage.ndjson").exists()
