"""Monitors are watched: silence is an alert, a restart is none, and it ends when work goes on."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.lineage import Produced, Recipe, RunContext
from fm_platform.lineage.database import now
from fm_platform.spec.alerts import Alerts
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import monitors
from fm_platform.stages.alerts import Desk
from fm_platform.stages.monitors import FailedDay, up_since, watch_monitors
from fm_platform.workspace import Workspace

NOW_S = 1_800_000_000.0
POLICY = Alerts(check_every_s=30)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    ws = Workspace.open(Home(tmp_path / "home"))
    (ws.home.root / "rows.csv").write_text("text\nfine\n")
    spec = ProjectSpec(
        name="shop", taxonomy={"classes": ["a", "b"]}, calendar={"start": date(2026, 1, 1)},
        sources=[{"name": "mail", "options": {"path": "rows.csv"}}], alerts=POLICY,
    )  # type: ignore[arg-type] # fmt: skip
    monkeypatch.setattr(monitors.time, "time", lambda: NOW_S)
    return Desk(ws, LoadedProject(spec, ws.home.root, ws.home.root / "defs.yaml"))


def states(desk: Desk) -> list[tuple[str, str]]:
    return [(life.alert.title, life.state) for life in desk.lives().values()]


def test_a_sensor_that_fell_silent_is_one_alert_until_it_looks_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        watch_monitors(desk, {"shop_drift": NOW_S - 600, "shop_late": NOW_S - 40}, NOW_S - 9_000)

    words = "sensor shop_drift has not looked for 10 minutes; it should every 30 s"
    assert states(desk) == [(words, "open")]

    watch_monitors(desk, {"shop_drift": NOW_S - 10, "shop_late": NOW_S - 10}, NOW_S - 9_000)

    assert states(desk) == [(words, "repaired")]

    monkeypatch.setattr(monitors.time, "time", lambda: NOW_S + 600)
    watch_monitors(desk, {"shop_drift": NOW_S - 10, "shop_late": NOW_S + 590}, NOW_S - 9_000)

    assert states(desk) == [(words, "repaired"), (words, "open")]


def test_a_sensor_that_never_looked_is_an_alert(desk: Desk) -> None:
    watch_monitors(desk, {"shop_drift": None}, NOW_S - 100)

    assert states(desk) == [("sensor shop_drift never looked; it should every 30 s", "open")]


def test_a_day_whose_run_failed_is_an_alert_until_it_is_built(desk: Desk) -> None:
    failed = [FailedDay("2026-01-05", "r1", now().timestamp() - 9, "shop/raw: no column text")]
    words = "the run of 2026-01-05 failed: shop/raw: no column text"

    watch_monitors(desk, {}, NOW_S, failed)
    watch_monitors(desk, {}, NOW_S, failed)

    assert states(desk) == [(words, "open")]
    (life,) = desk.lives().values()
    assert "fm run shop --from 2026-01-05 --to 2026-01-05" in life.alert.repairs[0].title

    recipe = Recipe("shop", "cleaned", "cleaned", "2026-01-05", (), "c", {}, "e", 0)
    desk.ws.ledger.record(recipe, Produced("h", {}), RunContext(), now(), now())
    watch_monitors(desk, {}, NOW_S, failed)

    assert states(desk) == [(words, "repaired")]


def test_after_a_stop_of_the_daemon_sensors_have_their_turn_first(desk: Desk) -> None:
    watch_monitors(desk, {"shop_drift": NOW_S - 86_400}, NOW_S - 20)

    assert states(desk) == []


@pytest.mark.parametrize(
    ("before", "last_s", "since"),
    [
        (None, None, NOW_S),
        (str(NOW_S - 500), NOW_S - 30, NOW_S - 500),
        (str(NOW_S - 500), NOW_S - 61, NOW_S),
    ],
)
def test_a_gap_between_ticks_is_a_stop(
    before: str | None, last_s: float | None, since: float
) -> None:
    assert up_since(before, last_s, NOW_S, POLICY) == since
