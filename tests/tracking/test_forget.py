"""Retention takes weights out of MLflow; the run stays, and the same recipe comes back whole."""

from __future__ import annotations

from pathlib import Path

from fm_platform.tracking.entities import COMPLETE_TAG
from fm_platform.tracking.forget import REMOVED
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
