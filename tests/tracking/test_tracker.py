"""Logging to MLflow: once, in order, and never in the way of training (O9)."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fm_platform.tracking.records import record_key
from fm_platform.tracking.tracker import Tracker
from tests.tracking.conftest import Records, Server

MakeTracker = Callable[..., Tracker]


def counts(client: Any, project: str) -> dict[str, int]:
    experiment = client.get_experiment_by_name(project)
    if experiment is None:
        return {"runs": 0, "models": 0, "versions": 0}
    ids = [experiment.experiment_id]
    return {
        "runs": len(client.search_runs(ids)),
        "models": len(client.search_logged_models(ids)),
        "versions": len(client.search_model_versions(f"name = '{project}'")),
    }


def aliases(client: Any, project: str) -> dict[str, int]:
    # MLflow gives the numbers as int or as str.
    return {k: int(v) for k, v in client.get_registered_model(project).aliases.items()}


def log_all(tracker: Tracker, records: Records) -> list[Any]:
    return [
        tracker.log_training(records.training()),
        tracker.log_merged_model(records.model()),
        tracker.log_evaluation(records.evaluation()),
        tracker.set_champion(records.project, "3" * 64, "better"),
    ]


def test_database_file_gets_runs_model_version_and_alias(
    make_tracker: MakeTracker, records: Records, tmp_path: Path
) -> None:
    tracker = make_tracker(ui_url="http://localhost:5000/")

    training, model, evaluation, champion = log_all(tracker, records)

    from mlflow import MlflowClient

    client = MlflowClient(tracker.uri, tracker.uri)
    assert counts(client, records.project) == {"runs": 3, "models": 1, "versions": 1}
    assert not any(p.spooled or p.reason for p in (training, model, evaluation, champion))
    run = client.get_run(training.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"rank": "8"}
    assert run.data.metrics == {"dev/f1": 0.5, "train_loss": 1 / 20}
    assert run.data.tags["fm.non_finite_metrics"] == "dev/bad"
    assert run.data.tags["dagster/run_id"] == "abc"
    assert len(client.get_metric_history(training.run_id, "train_loss")) == 20
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("cleaned/2026-01-01", "ab" * 16)
    assert json.loads(dataset.source) == {"content_hash": "ab" * 32, "version": 0}
    assert run.data.tags["fm.input.cleaned/2026-01-01"] == "ab" * 32
    assert aliases(client, records.project) == {"champion": 1}
    version = client.get_model_version_by_alias(records.project, "champion")
    assert version.tags["fm.promotion"] == "better"
    assert version.description == "**merged**"
    logged = client.get_logged_model(model.model_id)
    assert str(logged.status) == "READY"
    assert {m.key: m.value for m in logged.metrics} == {
        "tweets/dev_f1": 0.8, "all/f1_weighted": 0.75,
    }  # fmt: skip
    names = {a.path for a in client.list_artifacts(evaluation.run_id, "evaluation")}
    assert {Path(name).name for name in names} == {
        "results.json", "results.md", "report.html", "bars.png",
    }  # fmt: skip
    link = f"http://localhost:5000/#/models/{records.project}/versions/1"
    assert model.links["MLflow registered model"] == link
    assert sorted(p.name for p in (tmp_path / "artifacts").iterdir()) == [records.project]


def test_weights_are_linked_not_copied(
    make_tracker: MakeTracker, records: Records, tmp_path: Path
) -> None:
    make_tracker().log_merged_model(records.model())

    kept = next((tmp_path / "artifacts").rglob("model/model.safetensors"))
    assert kept.samefile(records.model_dir / "model.safetensors")


def test_same_recipe_twice_is_one_version(make_tracker: MakeTracker, records: Records) -> None:
    first = log_all(make_tracker(), records)
    again = log_all(make_tracker(), records)

    from mlflow import MlflowClient

    assert again == first
    uri = make_tracker().uri
    client = MlflowClient(uri, uri)
    assert counts(client, records.project) == {"runs": 3, "models": 1, "versions": 1}


def test_new_challenger_leaves_the_champion_until_it_wins(
    make_tracker: MakeTracker, records: Records
) -> None:
    tracker = make_tracker()
    log_all(tracker, records)
    tracker.log_merged_model(records.model("7"))

    from mlflow import MlflowClient

    client = MlflowClient(tracker.uri, tracker.uri)
    assert aliases(client, records.project) == {"champion": 1, "challenger": 2}
    tracker.set_champion(records.project, "7" * 64)
    assert aliases(client, records.project) == {"champion": 2}
    tracker.set_champion(records.project, "3" * 64, "rolled back")
    assert aliases(client, records.project) == {"champion": 1}


def test_damaged_model_folder_is_set_aside_after_three_refusals(
    make_tracker: MakeTracker, records: Records
) -> None:
    (records.model_dir / "model.safetensors").unlink()
    tracker = make_tracker()

    published = tracker.log_merged_model(records.model())
    tracker.set_champion(records.project, "3" * 64)
    reports = [tracker.publish_spool() for _ in range(3)]

    assert published.spooled
    assert "no model folder" in published.reason
    assert [report.remaining for report in reports] == [1, 0, 0]
    refused = sorted((tracker.spool.folder / "refused").iterdir())
    assert [path.name.split("-")[1] for path in refused] == ["model"] * 2 + ["champion"] * 2
    assert "safetensors" in refused[1].read_text()


def test_full_disk_below_the_artifacts_spools(
    make_tracker: MakeTracker, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fm_platform.tracking.publish.write_model_folder", full)
    tracker = make_tracker()

    published = tracker.log_merged_model(records.model())
    monkeypatch.undo()

    assert published.spooled
    assert "No space left" in published.reason
    assert tracker.publish_spool().remaining == 0


def test_file_that_mlflow_cannot_show_gets_an_ending(
    make_tracker: MakeTracker, records: Records, tmp_path: Path
) -> None:
    record = records.evaluation()
    bare = dataclasses.replace(
        record, images={"bars": b"png"}, files={"card": record.files["report.html"]}
    )

    make_tracker().log_evaluation(bare)

    names = {path.name for path in (tmp_path / "artifacts").rglob("evaluation/*")}
    assert names == {"results.json", "results.md", "bars.png", "card.md"}


def test_refused_port_spools_and_asks_only_once(
    make_tracker: MakeTracker, records: Records, refused_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    from fm_platform.tracking import client as client_module

    original = client_module.probe
    monkeypatch.setattr(
        client_module, "probe", lambda uri, timeout_s: (asked.append(uri), original(uri, timeout_s))
    )

    results = log_all(make_tracker(refused_url), records)
    log_all(make_tracker(refused_url), records)

    assert all(p.spooled and p.run_id is None for p in results)
    assert asked == [refused_url]
    assert [e.path.name.split("-")[1] for e in make_tracker(refused_url).spool.entries()] == [
        "training", "model", "evaluation", "champion",
    ]  # fmt: skip


def test_spooling_needs_no_mlflow(tmp_path: Path, refused_url: str) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from fm_platform.tracking.tracker import Tracker\n"
        "from fm_platform.tracking.records import TrainingRecord\n"
        f"t = Tracker({refused_url!r}, Path('a'), Path('s'))\n"
        "r = t.log_training(TrainingRecord('p', '1' * 64, '2' * 64, 0, 1, name='x'))\n"
        "assert r.spooled, r\nprint('mlflow' in sys.modules)\n"
        "assert t.publish_spool().remaining == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert done.stdout.strip() == "False", done.stderr


def test_empty_spool_publishes_nothing(make_tracker: MakeTracker, refused_url: str) -> None:
    report = make_tracker(refused_url).publish_spool()

    assert (report.published, report.remaining, report.refused) == ({}, 0, {})


def test_recovery_publishes_everything_once(
    make_tracker: MakeTracker, records: Records, server: Server
) -> None:
    tracker = make_tracker(server.url)
    server.door.mode = "error"
    assert all(p.spooled for p in log_all(tracker, records))

    client = server.client()
    report = tracker.publish_spool()
    again = tracker.publish_spool()

    assert (len(report.published), report.remaining, report.refused) == (4, 0, {})
    assert again.published == {}
    assert counts(client, records.project) == {"runs": 3, "models": 1, "versions": 1}
    assert aliases(client, records.project) == {"champion": 1}
    model = report.published[record_key("model", records.project, "3" * 64)]
    assert model.version == "1"
    assert model.links["MLflow run"].startswith(server.url)


def test_next_record_publishes_what_waits_first(
    make_tracker: MakeTracker, records: Records, server: Server
) -> None:
    server.door.mode = "error"
    make_tracker(server.url).log_merged_model(records.model())

    client = server.client()
    tracker = make_tracker(server.url, retry_after_s=0)
    tracker.set_champion(records.project, "3" * 64)

    assert tracker.spool.entries() == []
    assert aliases(client, records.project) == {"champion": 1}


def flap(make_tracker: MakeTracker, records: Records, server: Server, seed: int) -> None:
    tracker = make_tracker(server.url, retry_after_s=0)
    server.door.random.seed(seed)
    server.door.mode = "flapping"
    log_all(tracker, records)
    for _ in range(40):
        if tracker.publish_spool().remaining == 0:
            break
    client = server.client()
    report = tracker.publish_spool()

    assert (report.remaining, report.refused) == (0, {})
    refused = sorted((tracker.spool.folder / "refused").glob("*.txt"))
    assert [path.read_text() for path in refused] == []
    assert counts(client, records.project) == {"runs": 3, "models": 1, "versions": 1}, seed
    assert aliases(client, records.project).keys() == {"champion"}
    experiment = client.get_experiment_by_name(records.project).experiment_id
    for run in client.search_runs([experiment]):
        assert run.data.tags["fm.complete"] == "true"
        if "train_loss" in run.data.metrics:
            assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 20


def test_flapping_server_gets_everything_exactly_once(
    make_tracker: MakeTracker, records: Records, server: Server
) -> None:
    flap(make_tracker, records, server, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_flapping_server_twenty_times(
    make_tracker: MakeTracker, records: Records, server: Server, seed: int
) -> None:
    flap(make_tracker, records, server, seed)


def test_two_processes_do_not_publish_the_spool_twice(
    make_tracker: MakeTracker, records: Records, server: Server
) -> None:
    tracker = make_tracker(server.url)
    server.door.mode = "error"
    tracker.log_training(records.training())
    server.door.mode = "open"

    with tracker.spool.lock(1):
        report = make_tracker(server.url, timeout_s=0.2).publish_spool()

    assert report.remaining == 1
    assert "another process" in report.reason
    assert tracker.publish_spool().remaining == 0


def test_hanging_server_spools(
    make_tracker: MakeTracker, records: Records, hanging_url: str
) -> None:
    tracker = make_tracker(hanging_url, timeout_s=0.2)

    assert tracker.log_training(records.training()).spooled


@pytest.mark.slow
def test_total_wait_for_a_dead_server_is_below_thirty_seconds(
    make_tracker: MakeTracker, records: Records, hanging_url: str, refused_url: str, server: Server
) -> None:
    for url in (hanging_url, refused_url):
        started = time.monotonic()
        for expert in ("a", "b", "c", "d"):
            make_tracker(url).log_training(records.training(recipe=expert, name=expert))
        log_all(make_tracker(url), records)
        assert time.monotonic() - started < 30, url
    server.door.mode = "error"
    started = time.monotonic()
    log_all(make_tracker(server.url), records)
    assert time.monotonic() - started < 30


def test_messages_hold_no_password(make_tracker: MakeTracker, records: Records) -> None:
    tracker = make_tracker("http://me:hunter2@127.0.0.1:9", timeout_s=0.2)

    published = tracker.log_training(records.training())

    assert published.spooled
    assert "hunter2" not in published.reason
    for path in tracker.spool.folder.iterdir():
        assert b"hunter2" not in path.read_bytes()
