"""A home that was copied publishes into itself, and its models load from where they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fm_platform.home import Home
from fm_platform.tracking.moved import follow
from fm_platform.tracking.records import ModelRecord
from fm_platform.workspace import Workspace


def publish(home: Path, text: str) -> None:
    """Register a model that holds `text`."""
    ws = Workspace.open(Home(home))
    staged = ws.home.work / text
    staged.mkdir()
    (staged / "config.json").write_text("{}")
    (staged / "README.md").write_text(text)
    save_file({"w": np.zeros(2, np.float32)}, staged / "model.safetensors")
    content = ws.models.publish(staged, {}).content_hash
    record = ModelRecord("shop", content, content, 0, 1, model_dir=str(ws.models.open(content)))
    assert ws.tracker.log_merged_model(record).spooled is False


def test_a_copied_home_publishes_into_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    # MLflow itself leaves it behind once somebody set a tracking URI in this process
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, copy = tmp_path / "first", tmp_path / "a copy"
    publish(first, "one")
    shutil.copytree(first, copy)
    before = sorted(first.rglob("*"))

    publish(copy, "two")

    assert sorted(first.rglob("*")) == before
    uri = Home(copy).tracking_uri
    client = MlflowClient(uri, uri)
    inside = f"{(copy / 'mlflow' / 'artifacts').as_uri()}/"
    experiment = client.get_experiment_by_name("shop")
    told = [
        experiment.artifact_location + "/",
        *(version.source for version in client.search_model_versions("name = 'shop'")),
        *(run.info.artifact_uri for run in client.search_runs([experiment.experiment_id])),
        *(m.artifact_location for m in client.search_logged_models([experiment.experiment_id])),
    ]
    assert len(told) == 1 + 3 * 2
    assert [place for place in told if not place.startswith(f"{inside}shop/")] == []


def test_a_database_that_lies_elsewhere_is_left_alone(tmp_path: Path) -> None:
    shared = f"sqlite:///{tmp_path / 'shared' / 'mlflow.db'}"

    assert not follow(shared, tmp_path / "home" / "artifacts", "file:///others/shop", "shop")
    assert not (tmp_path / "shared").exists()
