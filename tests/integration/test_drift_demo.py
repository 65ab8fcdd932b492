"""`make demo-drift` from nothing: the whole loop under a real daemon, on the shipped text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assets.demos.drift_facts import facts
from fm_platform.home import Home
from fm_platform.sources.corpora import ARCHIVE_VARIABLE
from fm_platform.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = os.environ.get(ARCHIVE_VARIABLE)
pytestmark = [pytest.mark.slow, pytest.mark.daemon, pytest.mark.timeout(3600)]


def demo(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "assets.demos.drift_demo", "--minutes", "50"],
        cwd=ROOT, env={**os.environ, "FM_HOME": str(home)}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.skipif(not ARCHIVE or not Path(ARCHIVE).is_file(), reason="no local archive")
def test_the_loop_closes_once(tmp_path: Path) -> None:
    first = demo(tmp_path / "home")

    assert first.returncode == 0, first.stdout[-4_000:]
    ws = Workspace.open(Home(tmp_path / "home-drift"))
    now = facts(ws, "drift")
    (life,) = now.alerts
    assert (life.alert.cause.kind, life.alert.cause.name) == ("source_came", "amazon")
    assert [tags["alert_id"] for tags in now.backfills] == [life.alert.id]
    assert now.score["slices"] == ["amazon"]
    assert now.score["after"]["value"] > now.score["before"]["value"]
    first_day = ws.ledger.latest("drift", "raw", "raw", "2026-01-01")
    assert first_day is not None
    assert first_day.number == 1  # nothing old was built again

    second = demo(tmp_path / "home")
    assert second.returncode == 0
    assert "done before" in second.stdout
    assert facts(ws, "drift").backfills == now.backfills
