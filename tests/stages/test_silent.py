"""An expert without a row to train on is left out, and wanted again when one comes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.status import status
from fm_platform.sources.ingest import row_id, split_of
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.spec.models import Split
from fm_platform.stages import SilentReporter
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.silent import why_left_out, with_rows
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace
from tests.support.tiny_model import build_tiny_base

DAYS = ("2026-01-01", "2026-01-02")
OPTIONS = "date_column: day, key_column: key"
SPEC = f"""\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {{classes: [bad, good]}}
  calendar: {{start: {DAYS[0]}, end: {DAYS[1]}}}
  sources:
    - {{name: mail, options: {{path: mail.csv, {OPTIONS}}}}}
    - {{name: chat, options: {{path: chat.csv, {OPTIONS}}}}}
  labeling:
    functions:
      - {{kind: keyword, name: good_words, words: [fine], label: good}}
  base_model: {{location: base}}
  experts:
    - {{name: mail, sources: [mail]}}
    - {{name: chat, sources: [chat]}}
"""


def keys(source: str, split: str, count: int) -> list[str]:
    found = (f"{source}{i}" for i in range(1000))
    return [k for k in found if split_of(row_id(source, k), Split()) == split][:count]


def write(folder: Path, source: str, rows: dict[str, str]) -> None:
    """Write one row of each key, on its day."""
    with (folder / f"{source}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "day", "text"])
        writer.writerows([key, day, f"a fine text of {key}"] for key, day in rows.items())


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


@pytest.fixture
def project(tmp_path: Path) -> LoadedProject:
    folder = tmp_path / "small"
    build_tiny_base(folder / "base")
    (folder / "defs.yaml").write_text(SPEC)
    write(folder, "mail", dict.fromkeys(keys("mail", "train", 8), DAYS[0]))
    write(folder, "chat", dict(zip(keys("chat", "dev", 2), DAYS, strict=True)))
    return load_spec(folder / "defs.yaml")


def build(ws: Workspace, project: LoadedProject) -> None:
    for day in DAYS:
        for stage in (build_raw, build_weak_labels, build_cleaned):
            stage(ws, project, day, RunContext(), SilentReporter())


def wanted(ws: Workspace, project: LoadedProject) -> list[str]:
    rows = status(ws.ledger, project.spec, probe(ws, project))
    return [row.name for row in rows if row.kind == "adapter"]


def test_one_whose_rows_are_all_dev_is_left_out_until_one_to_train_on_comes(
    ws: Workspace, project: LoadedProject
) -> None:
    build(ws, project)

    assert [expert.name for expert in with_rows(ws, project).spec.experts] == ["mail"]
    assert "no row of chat to train on" in str(why_left_out(ws, project, "chat"))
    assert why_left_out(ws, project, "mail") is None
    assert wanted(ws, project) == ["mail"]

    dev, train = keys("chat", "dev", 2), keys("chat", "train", 1)
    write(project.directory, "chat", {dev[0]: DAYS[0], dev[1]: DAYS[1], train[0]: DAYS[0]})
    build(ws, project)

    assert why_left_out(ws, project, "chat") is None
    assert wanted(ws, project) == ["mail", "chat"]


def test_where_none_has_a_row_the_project_is_as_declared(
    ws: Workspace, project: LoadedProject
) -> None:
    write(project.directory, "mail", dict.fromkeys(keys("mail", "dev", 2), DAYS[0]))
    build(ws, project)

    assert with_rows(ws, project) == project
