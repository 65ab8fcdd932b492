"""Functions that ask: a model is asked once, and what was asked is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fm_platform.home import Home
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.status import plan
from fm_platform.spec.load import load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_votes
from fm_platform.workspace import Workspace
from tests.support.tiny_causal import build_tiny_causal

DAY = "2026-01-01"
SPEC: dict[str, Any] = {
    "name": "asks",
    "taxonomy": {"classes": ["bad", "good"]},
    "calendar": {"start": DAY, "end": DAY},
    "sources": [{"name": "mail", "options": {"path": "mail.jsonl"}}],
}
MOOD = {
    "kind": "prompt", "name": "mood", "model": "model", "template": "{text} . mood :",
    "answers": {"good": ["good", "fine"], "bad": ["bad"]}, "minimum_margin": 0.0,
}  # fmt: skip
WORDS = {"kind": "keyword", "name": "words", "words": ["fine"], "label": "good"}


def votes(folder: Path, *functions: dict[str, Any]) -> dict[str, ArtifactVersion]:
    """Build the votes of a day as the project file declares the functions now."""
    spec = {**SPEC, "labeling": {"functions": list(functions)}}
    whole = {"type": "assets.project.ContinuousTraining", "attributes": spec}
    (folder / "defs.yaml").write_text(json.dumps(whole))
    project, ws = load_spec(folder / "defs.yaml"), Workspace.open(Home(folder / "home"))
    build_raw(ws, project, DAY, RunContext(), SilentReporter())
    made = build_votes(ws, project, DAY, RunContext(), SilentReporter())
    todo = plan(ws.ledger, project.spec, probe(ws, project))
    assert not [row for row in todo if row.kind in ("raw", "votes")]
    return {version.name: version for version in made}


def test_a_prompt_is_asked_once_and_an_edit_of_its_margin_asks_nothing(tmp_path: Path) -> None:
    build_tiny_causal(tmp_path / "model")
    texts = ["the film was fine", "dull food", "one two"]
    lines = [json.dumps({"text": text, "id": str(i)}) for i, text in enumerate(texts)]
    (tmp_path / "mail.jsonl").write_text("\n".join(lines))

    first = votes(tmp_path, MOOD, WORDS)
    edited = votes(tmp_path, {**MOOD, "minimum_margin": 1.0}, WORDS)

    assert first["mood"].metrics["answers"] == {"asked": 3 + 3, "from_cache": 0}
    assert "answers" not in first["words"].metrics
    assert edited["words"].id == first["words"].id
    assert edited["mood"].recipe_hash != first["mood"].recipe_hash
    assert edited["mood"].metrics["answers"] == {"asked": 0, "from_cache": 6}
    assert edited["mood"].content_hash != first["mood"].content_hash  # all abstain
