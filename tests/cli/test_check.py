"""`fm check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from tests.support.tiny_model import build_tiny_base

SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: shop
  taxonomy: {classes: [praise, complaint]}
  calendar: {start: 2024-01-01, end: 2024-01-04}
  sources:
    - {name: mail, options: {path: mail.csv}}
  labeling:
    functions:
      - {kind: keyword, name: thanks, words: [thanks], label: praise}
  base_model: {location: base}
  training: {max_tokens: 24}
"""


@pytest.fixture
def shop(projects: Path) -> Path:
    folder = projects / "assets" / "defs" / "shop"
    folder.mkdir()
    (folder / "defs.yaml").write_text(SPEC)
    (folder / "mail.csv").write_text("text\nthanks for all\n")
    build_tiny_base(folder / "base")
    return folder


def test_a_sound_project_is_ready(fm: CliRunner, shop: Path) -> None:
    told = fm.invoke(app, ["check", "shop"])

    assert told.exit_code == 0, told.output
    assert told.output.endswith("shop is ready to be built\n")


def test_what_is_amiss_is_named_with_what_to_do(fm: CliRunner, shop: Path) -> None:
    (shop / "base" / "model.safetensors").unlink()

    told = fm.invoke(app, ["check", "shop"])
    body = json.loads(fm.invoke(app, ["check", "shop", "--json"]).output)

    assert told.exit_code == 1
    assert "wrong   base model: the base model has no safetensors weights" in told.output
    assert "-> fetch the safetensors form of the model" in told.output
    assert not body["ok"]
    assert [f["part"] for f in body["findings"] if f["state"] == "wrong"] == ["base model"]


def test_every_mistake_of_the_project_file_has_its_line(fm: CliRunner, shop: Path) -> None:
    text = SPEC.replace("label: praise", "label: prise").replace("max_tokens: 24", "max_tokens: 1")
    (shop / "defs.yaml").write_text(text)

    told = fm.invoke(app, ["check", "shop"])

    assert told.exit_code == 1
    assert told.output.count("wrong   project file:") == 2
    assert "line 10" in told.output
    assert told.output.endswith("2 to mend\n")
