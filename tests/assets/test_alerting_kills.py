"""Dagster's own sensor loop, killed for good at random points: one backfill for each alert."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from assets.instance import open_instance
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.monitoring.records import Alert, Cause, Estimate, Impact, Repair
from fm_platform.stages import SilentReporter
from fm_platform.stages.alerts import Desk
from fm_platform.stages.raw import build_raw
from fm_platform.workspace import Workspace, find_project
from tests.stages.small import DAYS, SPEC, write_rows
from tests.support.kill import Acks, moments, preload, run_and_kill
from tests.support.tiny_model import WORDS, build_tiny_base

POLICY = """\
  schedule: {enabled: false}
  alerts: {automatic: [backfill], check_every_s: 5, runs_per_day: 1000, minutes_per_day: 100000}
"""
START = datetime(2026, 2, 1, tzinfo=timezone.utc)
QUIET_TICKS = 10
TWICE = "UNIQUE constraint failed: bulk_actions.key"


def environment(home: Path, root: Path) -> None:
    os.environ.update(FM_HOME=str(home), FM_PROJECTS=str(root), DAGSTER_HOME="")


def tick(
    ready: Callable[[], object], home: Path, root: Path, clock: datetime, rounds: int | None
) -> None:
    """Evaluate every sensor again and again, as the daemon does, a minute of its clock apart."""
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.test_utils import freeze_time
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
    from dagster._daemon.sensor import execute_sensor_iteration

    environment(home, root)
    target = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="assets.definitions", attribute="defs"
    )
    place = InProcessWorkspaceLoadTarget([InProcessCodeLocationOrigin(target)])
    said, log = Acks(home / "ticks.txt"), logging.getLogger("sensors")
    log.setLevel(logging.CRITICAL)
    with open_instance(Home(home)) as instance, WorkspaceProcessContext(instance, place) as context:
        ready()
        while rounds is None or rounds > 0:
            with freeze_time(clock):
                for error in execute_sensor_iteration(context, log, None, None):
                    # Killed between the two, a tick has made its backfill and not said so: Dagster
                    # asks for the same one again, is refused, and evaluates anew a little later.
                    refused = error is not None and TWICE in error.message
                    assert error is None or refused, error.to_string()
                    said.append("a step")
            clock += timedelta(minutes=1)
            rounds = None if rounds is None else rounds - 1


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Two days of raw rows that nothing was made from yet."""
    home, root = tmp_path / "home", tmp_path / "root"
    for name in ("FM_HOME", "FM_PROJECTS", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "")
    environment(home, root)
    folder = root / "assets" / "defs" / "small"
    folder.mkdir(parents=True)
    build_tiny_base(folder / "base")
    write_rows(folder, each=6)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    (folder / "defs.yaml").write_text(SPEC.format(**words) + POLICY)
    project, ws = find_project("small"), Workspace.open(Home(home).ensure())
    for day in DAYS:
        build_raw(ws, project, day, RunContext(), SilentReporter())
    return Desk(ws, project)


def alert(number: int) -> Alert:
    repair = Repair(
        "backfill", "Label both days", "They are not.", DAYS, ("weak_labels", "cleaned"),
        minutes=1.0, automatic=True,
    )  # fmt: skip
    return Alert(
        "small", DAYS[1], DAYS[0], Cause("function", f"words_{number}", None, ("mail",)),
        f"votes {number} fell", (), (), Impact(Estimate(-5, -6, -4, "confidence")), "medium",
        (repair,),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [int(os.environ.get("FM_SENSOR_KILLS", "8"))])
def test_each_alert_is_one_backfill_whenever_the_sensor_is_killed(
    desk: Desk, tmp_path: Path, kills: int
) -> None:
    home, root = tmp_path / "home", tmp_path / "root"
    preload(__name__, "assets.definitions", "dagster._core.test_utils", "dagster._daemon.sensor")
    said, dice = Acks(home / "ticks.txt"), random.Random(kills)
    clock = START
    for number, moment in enumerate(moments(5, kills, most_progress=6, longest_s=0.2)):
        desk.open([alert(number)], number + 1)
        clock += timedelta(minutes=30)
        run_and_kill(tick, (home, root, clock, None), moment, lambda: len(said.lines()))
        if dice.random() < 0.3:  # the clock is set back
            back = clock - timedelta(hours=dice.randint(1, 48))
            tick(lambda: None, home, root, back, 1)

    for _ in range(2):  # one process after the other, none of which knows of the other
        clock += timedelta(minutes=30)
        tick(lambda: None, home, root, clock, QUIET_TICKS)

    with open_instance(Home(home)) as instance:
        asked = Counter(backfill.tags["alert_id"] for backfill in instance.get_backfills())
    assert asked == {alert(number).id: 1 for number in range(kills)}
    lives = [life for life in desk.lives().values() if life.alert.cause.kind == "function"]
    assert Counter((life.state, life.attempt) for life in lives) == {("running", 1): kills}
