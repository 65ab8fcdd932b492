"""One alert under a real daemon: one backfill, one look afterwards, and then nothing more."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from assets.demos.drift_demo import running_daemon
from assets.demos.drift_facts import facts
from assets.instance import open_instance
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.monitoring.records import Alert, Cause, Estimate, Impact, Repair
from fm_platform.stages import SilentReporter
from fm_platform.stages.alerts import Desk
from fm_platform.stages.raw import build_raw
from fm_platform.workspace import Workspace, find_project
from tests.stages.small import DAYS, SPEC, write_rows
from tests.support.tiny_model import WORDS, build_tiny_base

TICKS = 3
CLOSED = ("repaired", "not_repaired", "made_worse")
pytestmark = [pytest.mark.daemon, pytest.mark.timeout(900)]


def test_one_alert_is_one_backfill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, root = Home(tmp_path / "home").ensure(), tmp_path / "root"
    for name, value in (("FM_HOME", home.root), ("FM_PROJECTS", root), ("DAGSTER_HOME", "")):
        monkeypatch.setenv(name, str(value))
    folder = root / "assets" / "defs" / "small"
    folder.mkdir(parents=True)
    build_tiny_base(folder / "base")
    write_rows(folder)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    policy = "  alerts: {automatic: [backfill], check_every_s: 5}\n  schedule: {enabled: false}\n"
    (folder / "defs.yaml").write_text(SPEC.format(**words) + policy)
    project, ws = find_project("small"), Workspace.open(home)
    for day in DAYS:
        build_raw(ws, project, day, RunContext(), SilentReporter())
    repair = Repair(
        "backfill", "Label both days", "They are not.", DAYS, ("weak_labels", "cleaned"),
        minutes=1.0, automatic=True,
    )  # fmt: skip
    alert = Alert(
        "small", DAYS[1], DAYS[0], Cause("function", "good_words", None, ("mail",)), "votes fell",
        (), (), Impact(Estimate(-5, -6, -4, "confidence")), "medium", (repair,),
    )  # fmt: skip
    Desk(ws, project).open([alert], 1)

    with running_daemon(home):
        deadline = time.monotonic() + 800
        while (now := facts(ws, "small")).quiet_ticks < TICKS:
            assert time.monotonic() < deadline, now.story
            time.sleep(2)

    (life,) = now.alerts
    assert life.state in CLOSED  # without a champion there are no findings to look at
    (tags,) = now.backfills
    assert (tags["alert_id"], tags["title"]) == (life.alert.id, "votes fell")
    with open_instance(home) as instance:
        (backfill,) = instance.get_backfills()
        assert backfill.tags["alert_id"] == life.alert.id
        looks = [run for run in instance.get_runs() if run.tags.get("alert_check")]
    assert len(looks) == 1
    others = [
        one.alert for one in Desk(ws, project).lives().values() if one.alert.id != life.alert.id
    ]
    assert not [one.title for one in others if "never" in one.title]  # sensors that just began
    for stage in ("weak_labels", "cleaned"):
        built = {v.partition for v in ws.ledger.all_latest("small", stage)}
        assert built == set(DAYS)
