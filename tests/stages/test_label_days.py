"""A day of weak labels as its asset builds it: what its checks go by."""

from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.common import StageResult
from fm_platform.stages.label_days import build_labeled_day
from fm_platform.stages.raw import build_raw
from fm_platform.workspace import Workspace

DAY = "2026-01-01"
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01, end: 2026-01-01}
  sources:
    - {name: main, options: {path: rows.jsonl}}
"""
FUNCTION = """\
from fm_platform.labeling import labeling_function

@labeling_function
def said(row):
    return "good" if "great" in row.text else %s
"""
RAISES, ABSTAINS = "row.absent", "None"


@pytest.fixture
def project(tmp_path: Path) -> LoadedProject:
    folder = tmp_path / "small"
    folder.mkdir()
    lines = [f'{{"text": "{word} {i}"}}' for i in range(12) for word in ("great", "awful")]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "defs.yaml").write_text(SPEC)
    return load_spec(folder / "defs.yaml")


def label(ws: Workspace, project: LoadedProject, otherwise: str) -> StageResult:
    (project.directory / "labeling_functions.py").write_text(FUNCTION % otherwise)
    return build_labeled_day(ws, project, DAY, RunContext(), SilentReporter())


@pytest.mark.parametrize(("before", "after"), [(RAISES, ABSTAINS), (ABSTAINS, RAISES)])
def test_failures_are_those_of_the_functions_as_they_are_now(
    tmp_path: Path, project: LoadedProject, before: str, after: str
) -> None:
    ws = Workspace.open(Home(tmp_path / "home"))
    build_raw(ws, project, DAY, RunContext(), SilentReporter())

    first, then = (label(ws, project, otherwise) for otherwise in (before, after))

    assert then.reused  # the votes are the same
    for result, otherwise in ((first, before), (then, after)):
        checks = {check.name: check for check in result.checks}
        assert list(checks) == ["label_coverage", "function_failures"]
        assert checks["function_failures"].passed is (otherwise == ABSTAINS)
