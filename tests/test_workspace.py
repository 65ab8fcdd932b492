from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform import workspace
from fm_platform.errors import FMError, SpecError
from fm_platform.home import Home
from fm_platform.tracking.records import TrainingRecord
from fm_platform.workspace import Workspace, find_project, object_store_options
from tests.lineage.factory import make_recipe, record

KEYS = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "name",
    "AWS_SECRET_ACCESS_KEY": "hidden",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


class Recorder:
    def __init__(self, root: str, storage_options: dict[str, str]) -> None:
        self.root = root
        self.options = storage_options


def test_a_lake_in_an_object_store_takes_its_options_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "TableStore", Recorder)
    monkeypatch.setenv("FM_LAKE_URL", "s3://lake/fm")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    tables = Workspace.open(Home(tmp_path)).tables
    assert isinstance(tables, Recorder)
    assert tables.root == "s3://lake/fm"
    assert {k: tables.options[k] for k in KEYS} == KEYS
    assert tables.options["AWS_CONDITIONAL_PUT"] == "etag"
    assert "AWS_PROFILE" not in tables.options


def test_a_lake_in_a_folder_takes_no_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "TableStore", Recorder)
    monkeypatch.delenv("FM_LAKE_URL", raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    tables = Workspace.open(Home(tmp_path)).tables
    assert isinstance(tables, Recorder)
    assert tables.root == str(tmp_path / "lake")
    assert tables.options == {}


def test_a_chosen_way_of_conditional_puts_is_kept() -> None:
    given = {"AWS_CONDITIONAL_PUT": "dynamo:locks"}
    assert object_store_options("s3://lake", given) == given


def test_an_unknown_project_is_named_with_those_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FM_PROJECTS", str(tmp_path))
    (tmp_path / "assets" / "defs" / "tickets").mkdir(parents=True)
    (tmp_path / "assets" / "defs" / "tickets" / "defs.yaml").write_text("{}")
    with pytest.raises(FMError, match="no project 'nothing'") as caught:
        find_project("nothing")
    assert "tickets" in str(caught.value)


def test_a_run_that_mlflow_shows_later_is_noted_in_the_ledger(tmp_path: Path) -> None:
    ws = Workspace.open(Home(tmp_path))
    version = record(ws.ledger, make_recipe(kind="adapter", name="mail", partition=None))
    waiting = TrainingRecord("shop", version.recipe_hash, version.content_hash, 0, 1, name="mail")
    ws.tracker.spool.add(waiting)

    report = ws.tracker.publish_spool()

    (published,) = report.published.values()
    assert published.run_id is not None
    assert ws.ledger.get(version.id).mlflow_run_id == published.run_id


def test_a_project_is_called_as_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "assets" / "defs" / "copied"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(
        "type: assets.project.ContinuousTraining\n"
        "attributes:\n"
        "  name: first\n"
        "  taxonomy: {classes: [a, b]}\n"
        "  calendar: {start: 2026-01-01}\n"
        "  sources: [{name: main, options: {path: rows.csv}}]\n"
    )

    with pytest.raises(SpecError, match=r"defs.yaml:3: name: must be that of its folder, copied"):
        find_project("copied", tmp_path)
