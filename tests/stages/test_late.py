"""A file that came late: its day is brought in again, then exactly what reads its rows."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.lineage import Produced, Recipe, RunContext
from fm_platform.lineage.database import now
from fm_platform.monitoring.life import Life
from fm_platform.monitoring.records import Repair
from fm_platform.spec.load import load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.alerts import Desk
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.late import Late
from fm_platform.stages.monitors import watch_monitors
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, SPEC, build_days, write_rows
from tests.support.tiny_model import WORDS, build_tiny_base


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    folder = tmp_path / "small"
    folder.mkdir()
    build_tiny_base(folder / "base")
    write_rows(folder)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    (folder / "defs.yaml").write_text(SPEC.format(**words) + "  alerts: {}\n")
    loaded = load_spec(folder / "defs.yaml")
    ws = Workspace.open(Home(tmp_path / "home"))
    build_days(ws, loaded)
    return Desk(ws, loaded)


def go_on(desk: Desk) -> list[Life]:
    """What a tick of the sensor does; a new desk, as it looks at the world anew."""
    late = Late(Desk(desk.ws, desk.project))
    late.look()
    return late.due()


def done(desk: Desk, life: Life) -> None:
    desk.running(life, "b1")
    desk.finished(desk.find(life.alert.id), True, "done")


def test_a_late_file_rebuilds_its_day_and_what_reads_its_rows(desk: Desk) -> None:
    assert go_on(desk) == []
    with (desk.project.directory / f"mail-{DAYS[1]}.jsonl").open("a") as file:
        file.write('{"text": "it came late and is fine", "label": "positive"}\n')

    (life,) = go_on(desk)
    assert (life.repair.days, life.repair.stages) == ((DAYS[1],), ("raw",))  # type: ignore[union-attr]
    assert [one.alert.id for one in go_on(desk)] == [life.alert.id]  # a second tick: the same
    build_raw(desk.ws, desk.project, DAYS[1], RunContext(), SilentReporter())
    done(desk, life)

    (again,) = go_on(desk)
    assert again.repair is not None
    assert again.repair.stages == ("weak_labels", "cleaned")
    assert again.repair.days == (DAYS[1],)  # no earlier day reads a later one
    done(desk, again)
    assert go_on(desk) == []
    assert desk.find(life.alert.id).state == "repaired"


def test_missing_rows_are_brought_in_where_some_came_not_where_labels_are_stale(
    desk: Desk,
) -> None:
    missing = Repair("backfill", "Bring in again", "perhaps", DAYS, ("raw", "weak_labels"))
    edited = desk.project.file.read_text().replace("words: [bad, awful", "words: [bad")
    desk.project.file.write_text(edited)
    project = load_spec(desk.project.file)
    stale = {row.kind for row in Desk(desk.ws, project).status if row.state == "stale"}
    assert {"votes", "weak_labels"} <= stale

    assert not Desk(desk.ws, project).work(missing)

    with (project.directory / f"mail-{DAYS[1]}.jsonl").open("a") as file:
        file.write('{"text": "it came late and is fine", "label": "positive"}\n')
    assert Desk(desk.ws, project).work(missing).days == (DAYS[1],)
    build_raw(desk.ws, project, DAYS[1], RunContext(), SilentReporter())
    assert Desk(desk.ws, project).work(missing).days == (DAYS[1],)  # they are not labeled yet
    build_weak_labels(desk.ws, project, DAYS[1], RunContext(), SilentReporter())
    assert not Desk(desk.ws, project).work(missing)


def test_a_day_that_was_watched_is_watched_again(desk: Desk) -> None:
    recipe = Recipe("small", "findings", "findings", DAYS[1], (), "c", {}, "e", 0)
    desk.ws.ledger.record(recipe, Produced("h", {"alerts": []}), RunContext(), now(), now())
    with (desk.project.directory / f"mail-{DAYS[1]}.jsonl").open("a") as file:
        file.write('{"text": "it came late and is fine", "label": "positive"}\n')
    (life,) = go_on(desk)
    build_raw(desk.ws, desk.project, DAYS[1], RunContext(), SilentReporter())
    done(desk, life)
    (again,) = go_on(desk)
    done(desk, again)

    (look,) = go_on(desk)

    assert look.repair is not None
    assert (look.repair.days, look.repair.stages) == ((DAYS[1],), ("watch",))
    done(desk, look)
    assert go_on(desk) == []
    assert desk.find(life.alert.id).state == "repaired"


def test_a_day_that_came_empty_is_built_whole_when_its_rows_come(desk: Desk) -> None:
    # its run ended at `raw`: no row came. Nothing below is stale, it was never built.
    calendar = desk.project.spec.calendar.model_copy(update={"end": date(2026, 1, 3)})
    spec = desk.project.spec.model_copy(update={"calendar": calendar})
    desk = Desk(desk.ws, dataclasses.replace(desk.project, spec=spec))
    day = "2026-01-03"
    build_raw(desk.ws, desk.project, day, RunContext(), SilentReporter())
    assert go_on(desk) == []
    write_rows(desk.project.directory, [day])

    (life,) = go_on(desk)
    build_raw(desk.ws, desk.project, day, RunContext(), SilentReporter())
    done(desk, life)

    (again,) = go_on(desk)
    assert again.repair is not None
    assert again.repair.days == (day,)
    assert again.repair.stages == ("weak_labels", "cleaned", "watch")


def test_a_source_that_cannot_be_read_fails_no_tick_and_is_an_alert_until_it_can(
    desk: Desk,
) -> None:
    files = sorted(desk.project.directory.glob("chat-*.jsonl"))
    for file in files:
        file.rename(file.with_suffix(".away"))

    assert go_on(desk) == []
    for _ in range(2):
        watch_monitors(desk, {}, 0.0)
    (life,) = (life for life in desk.lives().values() if life.alert.cause.name == "chat")
    assert life.is_open
    assert "source chat: no file matches" in life.alert.title
    assert life.alert.repairs[0].title.startswith("put a file there")

    for file in files:
        file.with_suffix(".away").rename(file)
    watch_monitors(desk, {}, 0.0)
    assert desk.find(life.alert.id).state == "repaired"


def test_late_rows_that_cannot_be_taken_are_an_alert_until_they_can(desk: Desk) -> None:
    # the late day itself is only recorded: that its run failed was said to nobody
    file = desk.project.directory / f"mail-{DAYS[0]}.jsonl"
    before = file.read_text()
    file.write_text(before.replace('"text"', '"body"'))
    (life,) = go_on(desk)
    desk.running(life, "run1")
    desk.finished(desk.find(life.alert.id), False, "see run1 in Dagster")

    def told() -> list[tuple[str, str]]:
        watch_monitors(desk, {}, 0.0)
        return [
            (one.alert.title, one.state) for one in desk.lives().values()
            if one.alert.severity != "record"
        ]  # fmt: skip

    words = f"mail: rows of {DAYS[0]} came late or were corrected, and were not taken"
    assert told() == [(words, "open")]
    assert told() == [(words, "open")]
    file.write_text(before)
    assert told() == [(words, "repaired")]


def test_a_file_whose_rows_change_nothing_rebuilds_nothing(desk: Desk) -> None:
    file = desk.project.directory / f"mail-{DAYS[0]}.jsonl"
    file.write_text(file.read_text().replace('", "label"', '",   "label"'))

    (life,) = go_on(desk)
    build_raw(desk.ws, desk.project, DAYS[0], RunContext(), SilentReporter())
    done(desk, life)

    assert go_on(desk) == []
    assert desk.find(life.alert.id).events[-1].reason == "its rows change nothing"


@pytest.mark.slow
def test_a_late_file_for_day_5_of_30_touches_that_day_and_what_reads_its_rows(
    tmp_path: Path,
) -> None:
    days = [f"2026-01-{i:02d}" for i in range(1, 31)]
    desk = _month(tmp_path, days)
    before = _held(desk)
    with (desk.project.directory / f"mail-{days[4]}.jsonl").open("a") as file:
        file.write('{"text": "it came late and is fine", "label": "positive"}\n')

    (life,) = go_on(desk)
    build_raw(desk.ws, desk.project, days[4], RunContext(), SilentReporter())
    done(desk, life)
    (again,) = go_on(desk)
    assert again.repair is not None
    for day in again.repair.days:
        for stage in (build_weak_labels, build_cleaned):
            stage(desk.ws, desk.project, day, RunContext(), SilentReporter())
    done(desk, again)
    assert go_on(desk) == []

    after = _held(desk)
    changed = {key for key in after if after[key] != before.get(key)}
    assert {day for kind, day in changed if kind == "raw"} == {days[4]}
    assert {day for _, day in changed} == set(again.repair.days)
    assert days[4] in again.repair.days
    assert not any(day < days[4] for day in again.repair.days)
    late = desk.ws.ledger.latest("small", "raw", "raw", days[4])
    assert late is not None
    wanted = Desk(desk.ws, desk.project).status
    assert not [r for r in wanted if r.partition and r.state != "fresh"]  # and none was left out


def _month(folder: Path, days: list[str]) -> Desk:
    """Build 30 small days; labels look back a week, duplicates three days."""
    project = folder / "month"
    project.mkdir()
    build_tiny_base(project / "base")
    write_rows(project, days, 6)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    text = SPEC.format(**words).replace("end: 2026-01-02", "end: 2026-01-30")
    more = (
        "  cleaning: [{rule: exact_duplicates, window_days: 3}]\n"
        "  alerts: {}\n"
    )  # fmt: skip
    text = text.replace("  base_model:", "    label_model: {window_days: 7}\n  base_model:")
    (project / "defs.yaml").write_text(text + more)
    loaded = load_spec(project / "defs.yaml")
    ws = Workspace.open(Home(folder / "month-home"))
    build_days(ws, loaded, days)
    return Desk(ws, loaded)


def _held(desk: Desk) -> dict[tuple[str, str], str]:
    kinds = ("raw", "weak_labels", "cleaned")
    return {
        (v.kind, str(v.partition)): v.recipe_hash
        for kind in kinds
        for v in desk.ws.ledger.all_latest("small", kind)
    }
