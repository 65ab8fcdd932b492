"""`fm diff` on a real small history, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.cli.diff_text import diff_text, plain_code
from fm_platform.errors import FMError, RefError
from fm_platform.stages.diff import diff
from fm_platform.workspace import Workspace
from tests.stages.diff.worlds import DAY, build_day, evaluate, model, write_project


@pytest.fixture
def built(home: Path, tmp_path: Path) -> Workspace:
    ws = Workspace.open()
    build_day(ws, write_project(tmp_path / "small"))
    build_day(ws, write_project(tmp_path / "small", good="great, fine"))
    return ws


def test_two_versions_are_told_in_sections(built: Workspace, fm: CliRunner) -> None:
    told = fm.invoke(app, ["diff", f"cleaned/{DAY}#1", f"cleaned/{DAY}#2"])

    assert told.exit_code == 0, told.output
    order = ["Causes", "Labeling functions", "Rows"]
    places = [told.output.index(f"\n{title}\n") for title in order]
    assert places == sorted(places)
    assert "good_words: changed; 20 of 60 votes differ" in told.output
    assert "weak_labels: 20 rows none -> good" in told.output
    assert "fine number" in told.output


def test_one_version_is_compared_with_the_one_before(built: Workspace, fm: CliRunner) -> None:
    told = fm.invoke(app, ["diff", f"cleaned/{DAY}", "--json", "--no-text", "--rows", "1"])

    body = json.loads(told.output)
    assert (body["before"]["number"], body["after"]["number"]) == (1, 2)
    assert all(e["text"] is None for r in body["rows"] for e in r["examples"])
    assert all(len(r["examples"]) <= 3 for r in body["rows"])


def test_the_first_version_has_none_before(built: Workspace, fm: CliRunner) -> None:
    told = fm.invoke(app, ["diff", f"raw/{DAY}"])

    assert isinstance(told.exception, FMError)
    assert "there is none before it" in str(told.exception)
    assert "fm diff FIRST SECOND" in str(told.exception)


def test_an_unknown_version_is_an_error_with_candidates(built: Workspace, fm: CliRunner) -> None:
    told = fm.invoke(app, ["diff", "cleand"])

    assert isinstance(told.exception, RefError)
    assert "cleaned" in str(told.exception)


def test_an_empty_home_says_so(home: Path, fm: CliRunner) -> None:
    told = fm.invoke(app, ["diff", "champion", "challenger"])

    assert isinstance(told.exception, RefError)


def test_equal_versions_say_so(built: Workspace, fm: CliRunner) -> None:
    told = fm.invoke(app, ["diff", f"raw/{DAY}", f"raw/{DAY}"])

    assert "The same content, from the same recipe." in told.output


def test_models_show_tensors_answers_and_flips(home: Path, fm: CliRunner) -> None:
    ws = Workspace.open()
    old, new = model(ws, "old"), model(ws, "new")
    gold = ["good", "bad"] * 6
    evaluate(
        ws, {"merged_model": gold, "champion": ["good"] * 12}, gold,
        {"merged_model": new, "champion": old},
    )  # fmt: skip

    told = fm.invoke(app, ["diff", "merged_model#1", "merged_model#2"])

    assert told.exit_code == 0, told.output
    assert "1 of 1 differ" in told.output
    assert "Answers of champion -> merged_model on 12 gold rows" in told.output
    assert "fixed" in told.output


def test_hostile_text_stays_text(built: Workspace, tmp_path: Path) -> None:
    hostile = "fine \\u001b[31m\\u202e<script>x</script>"
    project = write_project(tmp_path / "small")
    rows = tmp_path / "small" / f"rows-{DAY}.jsonl"
    rows.write_text(f'{{"text": "{hostile}", "label": "good"}}\n' * 1 + rows.read_text())
    before = built.ledger.latest("small", "raw", "raw", DAY)
    build_day(built, project)
    after = built.ledger.latest("small", "raw", "raw", DAY)
    assert before is not None
    assert after is not None

    told = diff_text(diff(built, before, after))

    assert "<script>x</script>" in told  # a terminal runs no script; it is shown as it is
    assert "\x1b" not in told
    assert "\u202e" not in told


def test_source_keeps_its_spaces_and_loses_what_steers_a_terminal() -> None:
    assert plain_code("+\tif  x:") == "+   if  x:"
    assert plain_code('-    return "\x1b[31mred\u202e"') == '-    return "red"'
    assert len(plain_code("+" + "x" * 1_000)) == 180
