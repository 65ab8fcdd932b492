"""A small project on a tiny base, built once for all tests that look at models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.common import StageResult
from fm_platform.stages.definition import record_definition
from fm_platform.stages.evaluation import build_evaluation
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace
from tests.support.tiny_model import CLASSES, FILLERS, WORDS, build_tiny_base

Built = tuple[Workspace, LoadedProject, dict[str, StageResult]]
DAYS = ("2026-01-01", "2026-01-02")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {{classes: [negative, neutral, positive]}}
  calendar: {{start: 2026-01-01, end: 2026-01-02}}
  gold: {{column: label}}
  sources:
    - {{name: mail, options: {{path: "mail-*.jsonl"}}}}
    - {{name: chat, options: {{path: "chat-*.jsonl"}}}}
  labeling:
    functions:
      - {{kind: keyword, name: bad_words, words: [{negative}], label: negative}}
      - {{kind: keyword, name: flat_words, words: [{neutral}], label: neutral}}
      - {{kind: keyword, name: good_words, words: [{positive}], label: positive}}
  base_model: {{location: base}}
  experts:
    - {{name: mail, sources: [mail]}}
    - {{name: chat, sources: [chat]}}
  training:
    rank: 2
    alpha: 4.0
    learning_rate: 0.01
    expert_learning_rate: 0.01
    batch_tokens: 64
    max_tokens: 24
    threads: 1
    probe_epochs: 10
    epochs: 4
  merge:
    method: auto
    methods: [linear, regmean]
    search_evaluations: 4
    search_rows_per_source: 40
  evaluation: {{bootstrap_samples: 100, router: true, baselines: {{words: good_words}}}}
"""


def write_rows(folder: Path, days: Sequence[str] = DAYS, each: int = 120) -> None:
    generator = np.random.default_rng(0)
    for source in ("chat", "mail"):
        for day in days:
            lines = []
            for i in range(each):
                label = CLASSES[i % 3]
                told = WORDS[label][int(generator.integers(5))]
                around = [FILLERS[int(j)] for j in generator.integers(len(FILLERS), size=3)]
                text = " ".join([*around, told, told, f"{source}{day}n{i}"])
                lines.append(json.dumps({"text": text, "label": label}))
            (folder / f"{source}-{day}.jsonl").write_text("\n".join(lines) + "\n")


def build_small(folder: Path, home: Path) -> Built:
    """Write the project into `folder` and build all of it in `home`; takes half a minute."""
    build_tiny_base(folder / "base")
    write_rows(folder)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    (folder / "defs.yaml").write_text(SPEC.format(**words))
    loaded = load_spec(folder / "defs.yaml")
    ws = Workspace.open(Home(home))
    record_definition(ws, loaded, RunContext())
    build_days(ws, loaded)
    return ws, loaded, build_models(ws, loaded)


def build_days(ws: Workspace, loaded: LoadedProject, days: Sequence[str] = DAYS) -> None:
    for day in days:
        for stage in (build_raw, build_weak_labels, build_cleaned):
            stage(ws, loaded, day, RunContext(), SilentReporter())


def build_models(ws: Workspace, loaded: LoadedProject) -> dict[str, StageResult]:
    run, log = RunContext(), SilentReporter()
    results = {"start": build_start(ws, loaded, run, log)}
    for expert in ("mail", "chat"):
        results[expert] = build_adapter(ws, loaded, expert, run, log)
    results["merged"] = build_merged_model(ws, loaded, run, log)
    results["evaluation"] = build_evaluation(ws, loaded, run, log)
    return results
