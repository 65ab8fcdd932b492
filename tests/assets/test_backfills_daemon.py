"""A real daemon turns the request of a sensor into one backfill over exactly the chosen days."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from assets.instance import open_instance
from fm_platform.home import Home

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = {"2024-01-01", "2024-01-02", "2024-01-04"}
DEFINITIONS = f"""
import dagster as dg
from assets.backfills import backfill_requests

days = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-06")


@dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
def table(context) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={{"keys": sorted(context.partition_keys)}})


@dg.sensor(
    asset_selection=[table], minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def drift(context):
    if context.cursor:
        return dg.SkipReason("asked already")
    requests = backfill_requests([table.key], days, {sorted(CHOSEN)!r}, reason="drift")
    return dg.SensorResult(run_requests=requests, cursor="asked")


defs = dg.Definitions(assets=[table], sensors=[drift], executor=dg.in_process_executor)
"""


@pytest.mark.daemon
def test_daemon_runs_one_backfill_over_the_chosen_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    file = tmp_path / "probe.py"
    file.write_text(DEFINITIONS)
    with open_instance(Home(tmp_path / "home").ensure()) as instance:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-f", str(file)],
            cwd=ROOT,
            env=dict(os.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            key, until_s = dg.AssetKey("table"), time.monotonic() + 400
            while time.monotonic() < until_s:
                if instance.get_materialized_partitions(key) >= CHOSEN:
                    break
                assert daemon.poll() is None, "the daemon ended"
                time.sleep(2)
        finally:
            daemon.terminate()
            daemon.wait(60)

        assert instance.get_materialized_partitions(key) == CHOSEN
        (backfill,) = instance.get_backfills()
        assert backfill.tags["reason"] == "drift"
        assert backfill.tags["dagster/sensor_name"] == "drift"
        runs = [record.dagster_run for record in instance.get_run_records()]
        assert {run.tags["dagster/backfill"] for run in runs} == {backfill.backfill_id}
        assert len(runs) == 2  # one for each contiguous part
