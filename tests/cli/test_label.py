"""Answers in and out by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.errors import FMError

SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: shop
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01, end: 2026-01-02}
  sources: [{name: main, options: {path: rows.csv}}]
"""


@pytest.fixture
def shop(projects: Path) -> Path:
    folder = projects / "assets" / "defs" / "shop"
    folder.mkdir()
    (folder / "defs.yaml").write_text(SPEC)
    return folder


def test_answers_go_in_once_and_come_out(fm: CliRunner, shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("text,label\nlovely,good\n\x1b[31mawful,bad\n")
    words = ["label", "import", "shop", str(file), "--annotator", "ann"]

    assert "2 of them new" in fm.invoke(app, words).output
    assert "0 of them new" in fm.invoke(app, words).output
    out = tmp_path / "out.json"
    told = fm.invoke(app, ["label", "export", "shop", "--format", "argilla", "--to", str(out)])
    assert "wrote 2 answers" in told.output
    again = ["label", "import", "shop", str(out), "--format", "argilla"]
    assert "2 answers read, 0 of them new" in fm.invoke(app, again).output


def test_a_queue_without_labels_says_what_to_run(fm: CliRunner, shop: Path) -> None:
    result = fm.invoke(app, ["label", "queue", "shop", "-a", "ann"])

    assert isinstance(result.exception, FMError)
    assert "fm run shop" in str(result.exception)


def test_an_unknown_format_names_those_that_are(fm: CliRunner, shop: Path) -> None:
    result = fm.invoke(app, ["label", "export", "shop", "--format", "xml"])

    assert "labelstudio" in str(result.exception)


def test_the_page_is_not_opened_while_there_is_nothing_to_label(fm: CliRunner, shop: Path) -> None:
    result = fm.invoke(app, ["label", "open", "shop", "-a", "ann"])

    assert isinstance(result.exception, FMError)
    assert "fm run shop" in str(result.exception)


def test_lines_without_an_answer_are_told_and_asked_again(
    fm: CliRunner, shop: Path, tmp_path: Path
) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("text,label\nlovely,good\nhm,\n")

    told = fm.invoke(app, ["label", "import", "shop", str(file), "--annotator", "ann"]).output

    assert "1 answers read, 1 of them new" in told
    assert "1 lines without an answer" in told


def test_a_name_given_beside_the_file_is_taken_where_the_tool_gives_none(
    fm: CliRunner, shop: Path, tmp_path: Path
) -> None:
    file = tmp_path / "answers.json"
    given = {"result": [{"value": {"choices": ["good"]}}]}
    file.write_text(json.dumps([{"data": {"text": "x"}, "annotations": [given]}]))
    words = ["label", "import", "shop", str(file), "--format", "labelstudio"]

    assert "needs the name" in str(fm.invoke(app, words).exception)
    assert "1 of them new" in fm.invoke(app, [*words, "-a", "ann"]).output


@pytest.mark.parametrize("to", ["nowhere/out.csv", "."])
def test_a_file_that_cannot_be_written_is_said(
    fm: CliRunner, shop: Path, tmp_path: Path, to: str
) -> None:
    result = fm.invoke(app, ["label", "export", "shop", "--to", str(tmp_path / to)])

    assert isinstance(result.exception, FMError)
    assert "cannot be written" in str(result.exception)
