"""A small project with files and days, whose daily stages and models can be built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.records import slot_name
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.definition import record_definition
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [negative, positive]}
  calendar: {start: 2026-01-01, end: 2026-01-03}
  gold: {column: label}
  sources:
    - {name: mail, options: {path: "mail-*.jsonl"}}
  labeling:
    functions:
      - {kind: keyword, name: bad_words, words: [bad], label: negative}
      - {kind: keyword, name: good_words, words: [good], label: positive}
  base_model: {location: base}
  experts:
    - {name: mail, sources: [mail]}
"""
EDITED = SPEC.replace("words: [bad]", "words: [bad, poor]")


def moment() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class World:
    """A checkout with one project and a home."""

    root: Path
    home: Path
    branch: str | None = None

    @classmethod
    def make(cls, folder: Path) -> World:
        world = cls(folder / "checkout", folder / "home")
        world.folder.mkdir(parents=True)
        world.declare(SPEC)
        base = world.folder / "base"
        base.mkdir()
        for name, text in (("config.json", '{"model_type": "bert"}'), ("vocab.txt", "[UNK]")):
            (base / name).write_text(text)
        save_file({"w": np.zeros(2, np.float32)}, base / "model.safetensors")
        for day in DAYS:
            lines = [
                json.dumps({"text": f"a {word} thing {day} {i}", "label": label})
                for i in range(20)
                for word, label in (("bad", "negative"), ("good", "positive"), ("poor", "negative"))
            ]
            (world.folder / f"mail-{day}.jsonl").write_text("\n".join(lines) + "\n")
        return world

    @property
    def folder(self) -> Path:
        return self.root / "assets" / "defs" / "small"

    @property
    def project(self) -> LoadedProject:
        return load_spec(self.folder / "defs.yaml")

    @property
    def ws(self) -> Workspace:
        return Workspace.open(Home(self.home))

    def declare(self, text: str) -> None:
        (self.folder / "defs.yaml").write_text(text)

    def run(self, days: Sequence[str] = DAYS, ws: Workspace | None = None) -> None:
        """Build the daily stages."""
        ws, project = ws or self.ws, self.project
        record_definition(ws, project, RunContext())
        for day in days:
            for stage in (build_raw, build_weak_labels, build_cleaned):
                stage(ws, project, day, RunContext(), SilentReporter())

    def hashes(self, ws: Workspace | None = None) -> dict[str, str]:
        """Return what is in use by content hash."""
        found = (ws or self.ws).ledger.all_latest("small")
        return {slot_name(version.slot): version.content_hash for version in found}

    def copy(self, folder: Path) -> World:
        shutil.copytree(self.root, folder / "checkout")
        shutil.copytree(self.home, folder / "home")
        return World(folder / "checkout", folder / "home")
