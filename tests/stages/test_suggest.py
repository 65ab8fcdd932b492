"""Functions from examples: searched on one half of the rows, judged on the other, written in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.errors import FMError, SourceFormatError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.raw import build_raw
from fm_platform.stages.suggest import accept, read_examples, suggest
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace
from tests.support.tiny_model import FILLERS, build_tiny_base

DAY = "2026-01-01"
EXAMPLES = {"bad": ["it was awful", "a poor thing"], "good": ["lovely and great", "great fun"]}
SPEC = """\
# kept as it is
type: assets.project.ContinuousTraining
attributes:
  name: shop
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01, end: 2026-01-01}
  sources:
    - {name: mail, options: {path: mail.jsonl}}
  contract: {columns: {text: {}, stars: {type: integer}}}
  labeling:
    functions:   # ours
      - {kind: keyword, name: fine, words: [good, love], label: good}
      - {kind: keyword, name: foul, words: [bad, hate], label: bad}
  base_model: {location: base}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """A day of 600 rows, a third of them without a vote."""
    root = tmp_path_factory.mktemp("project")
    folder = root / "assets" / "defs" / "shop"
    folder.mkdir(parents=True)
    build_tiny_base(folder / "base")
    rng = np.random.default_rng(0)
    lines = []
    for i in range(600):
        good = i % 2
        told = [("awful", "poor"), ("lovely", "great")][good][int(rng.integers(2))]
        seen = ["bad", "hate", ""][i % 3] if not good else ["good", "love", ""][i % 3]
        words = [FILLERS[int(j)] for j in rng.integers(len(FILLERS), size=3)]
        stars = int(rng.integers(1, 3) if not good else rng.integers(4, 6))
        lines.append(json.dumps({"text": " ".join([*words, told, seen, f"n{i}"]), "stars": stars}))
    (folder / "mail.jsonl").write_text("\n".join(lines))
    (folder / "defs.yaml").write_text(SPEC)
    ws = Workspace.open(Home(root / "home"))
    for stage in (build_raw, build_weak_labels):
        stage(ws, load_spec(folder / "defs.yaml"), DAY, RunContext(), SilentReporter())
    return ws, folder


@pytest.fixture
def project(built: tuple[Workspace, Path]) -> LoadedProject:
    (built[1] / "defs.yaml").write_text(SPEC)
    return load_spec(built[1] / "defs.yaml")


def test_what_the_rows_confirm_is_suggested(
    built: tuple[Workspace, Path], project: LoadedProject
) -> None:
    found = {s.name: s for s in suggest(built[0], project, EXAMPLES)}

    said = found["suggested_good_said"]
    assert set(said.declared["words"]) == {"great", "lovely"}
    assert said.accepted
    assert said.new > 0.1  # rows on which no function voted
    assert said.low <= said.precision <= said.high
    assert found["suggested_good_stars_high"].declared["value"] >= 3
    assert "suggested_bad_or_good" in found
    assert all(s.low >= 0.7 for s in found.values() if s.accepted)


def test_no_test_row_is_read(
    built: tuple[Workspace, Path], project: LoadedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fm_platform.stages import suggest as stage

    seen: list[Any] = []
    real = stage._rows
    monkeypatch.setattr(stage, "_rows", lambda *a: seen.append(real(*a)) or seen[0])

    suggest(built[0], project, EXAMPLES)

    splits = set(seen[0].batch.column("split").to_pylist())
    assert splits == {"train"}  # no gold row, so no dev row either


def test_what_is_accepted_is_written_once_and_comments_stay(
    built: tuple[Workspace, Path], project: LoadedProject
) -> None:
    found = suggest(built[0], project, EXAMPLES)
    assert accept(project, found, ["suggested_good_said"]) == ["suggested_good_said"]
    text = project.file.read_text()
    again = load_spec(project.file)

    repeated = suggest(built[0], again, EXAMPLES)

    assert accept(again, repeated, ["suggested_good_said"]) == []
    assert project.file.read_text() == text
    assert all(line in text.splitlines() for line in SPEC.splitlines())
    written = yaml.safe_load(text)["attributes"]["labeling"]["functions"][-1]
    assert written["name"] == "suggested_good_said"


def test_what_does_not_clear_is_not_accepted(
    built: tuple[Workspace, Path], project: LoadedProject
) -> None:
    strict = suggest(built[0], project, EXAMPLES, threshold=0.9999)

    with pytest.raises(FMError, match="cannot be accepted"):
        accept(project, strict, ["suggested_good_said"])
    assert project.file.read_text() == SPEC


def test_examples_of_another_class_are_refused_with_their_line() -> None:
    with pytest.raises(SourceFormatError, match=r"(?s)no class.*:3"):
        read_examples(b"text,label\nfine,good\nodd,great\n", "some.csv", ["bad", "good"])


def test_the_command_shows_source_and_writes_what_was_approved(
    built: tuple[Workspace, Path], project: LoadedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FM_HOME", str(built[0].home.root))
    monkeypatch.setenv("FM_PROJECTS", str(built[1].parents[2]))
    pairs = [f"{text},{label}" for label, texts in EXAMPLES.items() for text in texts]
    file = built[1] / "examples.csv"
    file.write_text("text,label\n" + "\n".join(pairs))
    command = ["label", "suggest", "shop", "--examples", str(file)]

    shown = CliRunner().invoke(app, command)
    told = CliRunner().invoke(app, [*command, "--json", "--accept", "suggested_bad_said"])

    assert shown.exit_code == 0, shown.output
    assert "- kind: keyword" in shown.output
    assert json.loads(told.output)["written"] == ["suggested_bad_said"]
    assert "suggested_bad_said" in project.file.read_text()
