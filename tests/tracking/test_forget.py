"""Retention takes weights out of MLflow; the run stays, and the same recipe comes back whole."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

from fm_platform.tracking.entities import COMPLETE_TAG
from fm_platform.tracking.forget import REMOVED, REMOVED_REPORT
from tests.tracking.conftest import Records
from tests.tracking.test_tracker import MakeTracker, aliases, counts


def test_weights_go_and_the_run_stays(
    make_tracker: MakeTracker, records: Records, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    tracker = make_tracker()
    published = tracker.log_merged_model(records.model())
    (records.model_dir / "model.safetensors").unlink()  # the store let go of it before
    client = MlflowClient(tracker.uri, tracker.uri)

    freed = tracker.forget_model(records.project, records.model().recipe_hash)

    assert freed > len(b"weights" * 100)
    assert counts(client, records.project) == {"runs": 1, "models": 0, "versions": 0}
    assert not list((tmp_path / "artifacts").rglob("model.safetensors"))
    run = client.get_run(published.run_id)
    assert run.data.tags[COMPLETE_TAG] == REMOVED
    assert run.data.params == {"method": "linear"}
    assert tracker.forget_model(records.project, records.model().recipe_hash) == 0
    assert tracker.forget_model("nobody", "0" * 64) == 0


def test_the_same_recipe_is_registered_again(make_tracker: MakeTracker, records: Records) -> None:
    from mlflow import MlflowClient

    tracker = make_tracker()
    tracker.log_merged_model(records.model())
    tracker.forget_model(records.project, records.model().recipe_hash)

    again = tracker.log_merged_model(records.model())

    assert not again.reason
    client = MlflowClient(tracker.uri, tracker.uri)
    assert counts(client, records.project) == {"runs": 1, "models": 1, "versions": 1}
    assert set(aliases(client, records.project)) == {"challenger"}


def test_the_report_of_an_evaluation_goes_and_its_metrics_stay(
    make_tracker: MakeTracker, records: Records, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    tracker = make_tracker()
    tracker.log_merged_model(records.model())
    published = tracker.log_evaluation(records.evaluation())
    recipe = records.evaluation().recipe_hash

    assert tracker.forget_evaluation(records.project, recipe) > 0

    assert not list((tmp_path / "artifacts").rglob("report.html"))
    run = MlflowClient(tracker.uri).get_run(published.run_id)
    assert run.data.metrics == {"all/f1_weighted": 0.75}
    assert run.data.tags[COMPLETE_TAG] == REMOVED_REPORT
    assert tracker.forget_evaluation(records.project, recipe) == 0
    tracker.log_evaluation(records.evaluation())  # built again
    assert len(list((tmp_path / "artifacts").rglob("report.html"))) == 1


def test_weights_go_from_a_home_that_was_moved(
    make_tracker: MakeTracker, records: Records, tmp_path: Path
) -> None:
    from fm_platform.tracking.tracker import Tracker

    make_tracker().log_merged_model(records.model())
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copytree(tmp_path / "artifacts", moved / "artifacts")
    shutil.copy(tmp_path / "mlflow.db", moved / "mlflow.db")
    tracker = Tracker(f"sqlite:///{moved / 'mlflow.db'}", moved / "artifacts", moved / "spool")

    assert tracker.forget_model(records.project, records.model().recipe_hash) > 0

    assert not list((moved / "artifacts").rglob("model.safetensors"))
    assert list((tmp_path / "artifacts").rglob("model.safetensors"))  # another home's


def test_unused_pages_of_the_database_go(
    make_tracker: MakeTracker, records: Records, tmp_path: Path
) -> None:
    tracker = make_tracker()
    tracker.log_training(records.training())
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE waste AS SELECT zeroblob(400000) AS bytes")
        connection.execute("DROP TABLE waste")
    before = (tmp_path / "mlflow.db").stat().st_size

    freed = tracker.compact()

    assert freed > 300_000
    assert (tmp_path / "mlflow.db").stat().st_size <= before - freed
    assert tracker.compact() == 0
