"""A causal project in Dagster: raw rows and models, nothing that labels or watches."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from assets.definitions import shared_definitions
from assets.project import project_definitions
from fm_platform.spec.load import load_spec
from tests.stages.test_causal_project import SPEC


def test_dagster_sees_raw_and_models_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "defs.yaml").write_text(SPEC)
    own = project_definitions(load_spec(tmp_path / "defs.yaml"))
    definitions = dg.Definitions.merge(own, shared_definitions())
    graph = definitions.resolve_asset_graph()
    model = definitions.resolve_job_def("answers_model").asset_layer.executable_asset_keys
    daily = definitions.resolve_job_def("answers_daily").asset_layer.executable_asset_keys

    models = {"answers/adapters/mail", "answers/adapters/chat", "answers/merged_model",
              "answers/evaluation"}  # fmt: skip
    keys = graph.get_all_asset_keys()
    assert {k.to_user_string() for k in keys if k.path[0] == "answers"} == {"answers/raw", *models}
    assert {key.to_user_string() for key in model} == models
    assert {key.to_user_string() for key in daily} == {"answers/raw"}
