"""A whole build in a process of its own, to be killed at any moment, and taken up again."""

from __future__ import annotations

from pathlib import Path

from fm_platform.home import Home
from fm_platform.lineage.records import ArtifactVersion, RunContext
from fm_platform.spec.load import load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.definition import record_definition
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.upkeep.gc import collect
from fm_platform.workspace import Workspace
from tests.support.kill import Ready
from tests.upkeep.worlds import add

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: shop
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01, end: 2026-01-03}
  gold: {column: label}
  sources:
    - {name: main, options: {path: "rows-*.jsonl"}}
  labeling:
    functions:
      - {kind: keyword, name: good_words, words: [great], label: good}
      - {kind: keyword, name: bad_words, words: [awful, broken], label: bad}
"""


def write_project(folder: Path) -> Path:
    """Write a small project with three days of rows; return its file."""
    folder.mkdir(parents=True)
    for day in DAYS:
        lines = [
            f'{{"text": "{word} number {i} of {day}", "label": "{label}"}}'
            for i in range(15)
            for word, label in (("great", "good"), ("awful", "bad"))
        ]
        (folder / f"rows-{day}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "defs.yaml").write_text(SPEC)
    return folder / "defs.yaml"


def collect_for_ever(ready: Ready, home: str, first: int) -> None:
    """Replace a day and a model again and again, and remove what is replaced."""
    ws = Workspace.open(Home(Path(home)))
    ready()
    for salt in range(first, first + 100_000):
        raw = add(ws, "raw", "raw", DAYS[0], [], salt % 3)
        votes = add(ws, "votes", "words", DAYS[0], [raw], salt)
        cleaned = add(ws, "cleaned", "cleaned", DAYS[0], [raw, votes], salt)
        add(ws, "merged_model", "merged_model", None, [cleaned], salt)
        collect(ws, actor="test")


def build_all(ready: Ready, file: str, home: str) -> None:
    """Build definition, tables and columns of every day by their stages, then models.

    The models are published without being trained: trainings that are killed are tested in
    `tests/training/test_kill.py`.
    """
    ws, project = Workspace.open(Home(Path(home))), load_spec(Path(file))
    run, log = RunContext("test"), SilentReporter()
    ready()
    record_definition(ws, project, run)
    for day in DAYS:
        for stage in (build_raw, build_weak_labels, build_cleaned):
            stage(ws, project, day, run, log)
    cleaned: list[ArtifactVersion] = ws.ledger.all_latest("shop", "cleaned")
    adapters = [add(ws, "adapter", f"expert{n}", None, cleaned, n) for n in range(3)]
    merged = add(ws, "merged_model", "merged_model", None, adapters, 9)
    named = ws.ledger.alias("shop", "challenger")
    if named is None:
        ws.ledger.set_alias(
            "shop", "challenger", merged.id, expected=None, reason="merged", actor="test"
        )
