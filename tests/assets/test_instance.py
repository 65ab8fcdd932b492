from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from sqlalchemy.exc import OperationalError

from assets.instance import (
    LOCATION,
    PROCESS_TAG,
    execute,
    fail_abandoned_runs,
    failed_checks,
    failures,
    open_instance,
    records_failure,
)
from assets.keys import DAILY_STAGES, keys_of_stages
from fm_platform.errors import HomeError, NonFiniteLossError, StorageFullError
from fm_platform.home import Home
from fm_platform.spec.load import LoadedProject
from tests.assets.conftest import DAYS, FakeStages

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("DAGSTER_HOME", "")
    return Home(tmp_path / "home").ensure()


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with open_instance(home) as opened:
        yield opened


def run(
    instance: dg.DagsterInstance, definitions: dg.Definitions, project: LoadedProject,
    days: list[str],
) -> dg.JobExecutionResult:  # fmt: skip
    return execute(
        instance, definitions, "shop_daily", keys=keys_of_stages(project.spec, DAILY_STAGES),
        days=days, tags={"asked_by": "person"},
    )  # fmt: skip


def test_processes_that_open_a_new_instance_at_once_make_one_storage(home: Home) -> None:
    # Dagster looks, makes the tables and stamps their version in three steps: two processes that
    # did so together left a version table with two heads, and no code location loaded ever again.
    code = (
        "from assets.instance import open_instance; from fm_platform.home import Home\n"
        "open_instance(Home.from_environment()).dispose()"
    )
    words = {**os.environ, "FM_HOME": str(home.root), "PYTHONPATH": str(ROOT)}
    at_once = [
        subprocess.Popen([sys.executable, "-c", code], env=words, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=300)[1].decode() for process in at_once]
    assert [process.returncode for process in at_once] == [0, 0, 0, 0], said
    for name in ("schedules/schedules.db", "history/runs.db", "history/runs/index.db"):
        with sqlite3.connect(home.dagster / name) as connection:
            assert len(connection.execute("select * from alembic_version").fetchall()) == 1, name


def test_an_instance_is_not_opened_while_another_process_does(home: Home) -> None:
    opened: list[dg.DagsterInstance] = []
    other = threading.Thread(target=lambda: opened.append(open_instance(home)), daemon=True)
    with (home.dagster / "open.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        other.start()
        other.join(0.5)
        assert not opened
        assert not (home.dagster / "schedules").exists()
    other.join(60)
    assert opened
    opened[0].dispose()


def test_settings_are_those_of_the_checkout(home: Home, instance: dg.DagsterInstance) -> None:
    assert os.environ["DAGSTER_HOME"] == str(home.dagster)
    assert instance.root_directory == str(home.dagster)
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] == 300
    assert not instance.telemetry_enabled
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries > 0
    pools = instance.get_concurrency_config().pool_config
    assert pools.default_pool_limit == 1
    assert isinstance(instance.run_coordinator, dg.QueuedRunCoordinator)


def test_a_changed_copy_is_brought_up_to_date(home: Home) -> None:
    copy = home.dagster / "dagster.yaml"
    copy.write_text("# Managed by fm_platform\ntelemetry: {enabled: true}\n")
    with open_instance(home):
        assert copy.read_text() == (ROOT / "dagster.yaml").read_text()


def test_a_copy_of_ones_own_is_left_alone(home: Home) -> None:
    copy = home.dagster / "dagster.yaml"
    copy.write_text("telemetry: {enabled: false}\n")
    with open_instance(home) as opened:
        assert copy.read_text() == "telemetry: {enabled: false}\n"
        assert not opened.run_monitoring_enabled


@pytest.mark.parametrize("days", [DAYS, DAYS[1:2]], ids=["a range", "one day"])
def test_a_run_is_recorded_where_the_ui_looks_for_it(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    project: LoadedProject,
    stages: FakeStages,
    days: list[str],
) -> None:
    result = run(instance, definitions, project, days)

    assert result.success
    (record,) = instance.get_run_records()
    found = record.dagster_run
    assert found.job_name == "shop_daily"
    assert found.status == dg.DagsterRunStatus.SUCCESS
    assert found.asset_selection == set(keys_of_stages(project.spec, DAILY_STAGES))
    assert found.tags["project"] == "shop"
    # The run timeline leaves out runs without a place in the code location.
    assert found.remote_job_origin is not None
    assert found.remote_job_origin.repository_origin.repository_name == "__repository__"
    assert found.remote_job_origin.location_name == LOCATION
    for key in keys_of_stages(project.spec, DAILY_STAGES):
        assert instance.get_materialized_partitions(key) == set(days)


def test_the_location_has_the_name_that_the_workspace_gives_it() -> None:
    (entry,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]

    assert entry["python_module"]["location_name"] == LOCATION
    assert entry["python_module"]["module_name"] == "assets.definitions"


def test_a_failed_step_is_told_in_its_own_words(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    project: LoadedProject,
    stages: FakeStages,
) -> None:
    stages.failing["cleaned"] = lambda day: NonFiniteLossError("it broke", next_step="mend it")

    result = run(instance, definitions, project, DAYS)

    assert [str(error) for error in failures(result)] == ["shop/cleaned: it broke\n  next: mend it"]


def test_a_failed_check_is_told_once(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    project: LoadedProject,
    stages: FakeStages,
) -> None:
    stages.failed_checks = {"raw.contract"}

    result = run(instance, definitions, project, DAYS[:1])

    (error,) = failures(result)
    assert str(error).startswith("check contract of shop/raw failed: contract does not hold")
    assert "fm show raw/DAY tells by which rule" in str(error)


def test_a_day_without_rows_says_how_to_go_on(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    project: LoadedProject,
    stages: FakeStages,
) -> None:
    stages.failed_checks = {"raw.non_empty"}

    (error,) = failures(run(instance, definitions, project, DAYS))

    assert "--to and --from" in str(error)


def test_a_warning_is_no_failure(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    project: LoadedProject,
    stages: FakeStages,
) -> None:
    stages.failed_checks, stages.blocking = {"raw.contract"}, False

    result = run(instance, definitions, project, DAYS[:1])

    assert failures(result) == []
    assert len(failed_checks(result, blocking=False)) == 1


@pytest.mark.parametrize(
    ("process", "abandoned"),
    [
        (f"{socket.gethostname()}|999999999 1.00", True),
        (f"{socket.gethostname()}|{os.getpid()} 1.00", True),
        ("elsewhere|999999999 1.00", False),
        ("", False),
    ],
    ids=["gone", "another process with that number", "another machine", "not ours"],
)
def test_a_run_whose_process_is_gone_is_failed(
    instance: dg.DagsterInstance, definitions: dg.Definitions, process: str, abandoned: bool
) -> None:
    job = definitions.resolve_job_def("shop_model")
    dead = instance.create_run_for_job(
        job, tags={PROCESS_TAG: process}, status=dg.DagsterRunStatus.STARTED
    )

    assert fail_abandoned_runs(instance) == ([dead.run_id] if abandoned else [])
    status = instance.get_run_by_id(dead.run_id)
    assert status is not None
    assert (status.status == dg.DagsterRunStatus.FAILURE) is abandoned


@pytest.mark.parametrize(
    ("found", "free", "expected"),
    [
        ("database or disk is full", 1 << 40, StorageFullError),
        ("disk I/O error", 1000, StorageFullError),
        ("disk I/O error", 1 << 40, HomeError),
        ("attempt to write a readonly database", 1 << 40, HomeError),
    ],
)
def test_records_that_cannot_be_written_are_told_in_words(
    found: str, free: int, expected: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    error = OperationalError("INSERT", {}, sqlite3.OperationalError(found))

    told = records_failure(error, Home(tmp_path))

    assert type(told) is expected
    assert found in str(told)
    assert "run again" in str(told)
