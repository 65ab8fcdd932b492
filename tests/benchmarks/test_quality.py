"""The shipped project with larger models, as the benchmark declares it."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.quality import ASKED, write_variant
from fm_platform.workspace import find_project


def test_prompts_and_another_base_are_added_and_all_else_stays(tmp_path: Path) -> None:
    model = tmp_path / "large"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"num_hidden_layers": 12}), "utf-8")
    shipped = find_project("sentiment").spec

    write_variant(tmp_path, tmp_path / "causal", model)
    found = find_project("sentiment", tmp_path).spec

    more = found.labeling.functions[len(shipped.labeling.functions) :]
    assert [(f.kind, f.name) for f in more] == [("prompt", f"says_{name}") for name in ASKED]
    assert found.base_model.location == str(model)
    assert found.training.frozen_layers == 8, "the upper third is trained"
    assert found.labeling.functions[: -len(more)] == shipped.labeling.functions
    assert (found.sources, found.cleaning, found.merge) == (
        shipped.sources, shipped.cleaning, shipped.merge,
    )  # fmt: skip
