"""Sixty days of a project: what was true on each of them can be asked afterwards."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from fm_platform.lineage.graph import graph_at
from fm_platform.lineage.records import Slot
from fm_platform.lineage.refs import resolve
from fm_platform.stages import SilentReporter
from fm_platform.stages.reproduce import make_plan, reproduce
from tests.histories import EDIT, MISTAKE, ROLLBACK, SPLIT, SWAP, History, scripted
from tests.histories.world import BASES, PROJECT, day_name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]  # sixty days take minutes


@pytest.fixture(scope="module")
def history(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> History:
    kept = Path(pytestconfig.cache.mkdir("histories"))
    return scripted(kept, tmp_path_factory.mktemp("history") / "sixty")


@pytest.mark.parametrize("number", [1, 19, 20, 21, 29, 30, 31, 37, 40, 45, 50, 60])
def test_the_graph_of_a_day_holds_what_was_built_by_then(history: History, number: int) -> None:
    graph = graph_at(history.workspace().ledger, PROJECT, history.evening(number))

    days = {node.partition for node in graph.nodes if node.kind == "cleaned"}
    assert days == {day_name(n) for n in range(1, number + 1)}
    functions = {
        n.name for n in graph.nodes if n.kind == "votes" and n.partition == day_name(number)
    }
    joy = {"glad_words", "thrilled_words"} if number >= 30 else {"good_words"}
    assert functions == {"bad_words", "flat_words", "exemplars", *joy}
    assert all(node.created_at and node.created_at <= history.evening(number)
               for node in graph.nodes)  # fmt: skip


def test_every_graph_stands_on_the_base_of_its_time(history: History) -> None:
    ledger = history.workspace().ledger
    seen = {}
    for number in (20, 30, 40, 50, 60):
        merged = ledger.latest(PROJECT, "merged_model", "merged_model", at=history.evening(number))
        assert merged is not None
        assert merged.created_at.date().isoformat() == day_name(number)
        seen[number] = merged.config["base_model"]
    assert seen == {20: BASES[0], 30: BASES[0], 40: BASES[0], 50: BASES[1], 60: BASES[1]}


def test_status_after_the_edit_names_the_function(history: History) -> None:
    moment = history.moment(EDIT)

    stale = {(r["kind"], r["name"]) for r in moment.status if r["state"] == "stale"}
    fresh = {(r["kind"], r["name"]) for r in moment.status if r["state"] == "fresh"}
    assert ("votes", "good_words") in stale
    assert {("votes", "bad_words"), ("votes", "flat_words"), ("raw", "raw")} <= fresh
    for row in moment.rows("weak_labels"):
        assert "labeling function good_words changed" in row["why"]


def test_status_after_the_split_names_the_classes(history: History) -> None:
    moment = history.moment(SPLIT)

    assert not [row for row in moment.status if row["state"] == "fresh" and row["kind"] != "spec"]
    for row in moment.rows("weak_labels"):
        assert "classes" in row["why"], row


def test_status_after_the_mistake_names_the_function(history: History) -> None:
    since_split = [
        row for row in history.moment(MISTAKE).rows("weak_labels")
        if row["partition"] > day_name(30 - history.script.window_days)
    ]  # fmt: skip

    assert {row["state"] for row in since_split} == {"stale"}
    assert all("labeling function flat_words changed" in row["why"] for row in since_split)


def in_use(history: History, at: datetime) -> dict[Slot, str]:
    """Return what was in use at a moment: slot -> content hash."""
    ledger = history.workspace().ledger
    slots = ledger.slots_in_use(PROJECT, at=at)
    found = ledger.get_many(list(slots.values()), with_inputs=False)
    return {version.slot: version.content_hash for version in found}


def test_after_the_rollback_everything_is_as_it_was_that_evening(history: History) -> None:
    moment, then = history.moment(ROLLBACK), history.evening(history.script.rollback_to)

    assert in_use(history, moment.after) == in_use(history, then)
    day = ("weak_labels", "weak_labels", day_name(38))
    assert day in in_use(history, moment.before)
    assert day not in in_use(history, moment.after)


def test_after_the_rollback_only_what_the_split_had_left_alone_is_stale(history: History) -> None:
    moment, then = history.moment(ROLLBACK), history.evening(history.script.rollback_to)
    graph = graph_at(history.workspace().ledger, PROJECT, then)
    stale = [row for row in moment.status if row["state"] == "stale"]

    assert len(moment.stale) == len(stale)  # what the rollback itself says
    days = [row for row in stale if row["partition"]]
    assert all("classes" in row["why"] for row in days)
    before_split = {day_name(number) for number in range(1, 30)}
    built_again = [row for row in days if row["action"] == "build"]
    assert {row["partition"] for row in built_again} <= before_split
    for row in days:  # later days look back on days before the split; a run asks those first
        if row["partition"] not in before_split:
            assert row["action"] == "check"
            assert max(before_split) in row["why"]
    models = [row for row in stale if not row["partition"]]  # the calendar goes on to day 60
    assert all("is not built" in row["why"] for row in models)
    assert not {node.slot for node in graph.nodes if node.state == "stale"} & {
        (row["kind"], row["name"], None) for row in models
    }


def test_the_run_after_the_rollback_gives_the_hashes_of_that_evening(history: History) -> None:
    moment, then = history.moment(ROLLBACK), history.evening(history.script.rollback_to)
    assert moment.rebuilt is not None

    assert in_use(history, moment.rebuilt) == in_use(history, then)
    made = history.workspace().ledger.versions(PROJECT)
    assert not [v for v in made if moment.after <= v.created_at < moment.rebuilt]


def test_the_mistake_stays_in_history_and_out_of_use(history: History) -> None:
    day = ("votes", "flat_words", day_name(39))

    assert in_use(history, history.evening(39))[day] != in_use(history, history.evening(40))[day]


def test_after_the_swap_every_adapter_is_stale_and_says_why(history: History) -> None:
    rows = history.moment(SWAP).rows("adapter")

    assert {row["name"]: row["state"] for row in rows} == {"mail": "stale", "chat": "stale"}
    start = history.moment(SWAP).rows("start")[0]
    assert "base_model changed" in start["why"]


def test_no_adapter_meets_a_base_that_it_was_not_evaluated_on(history: History) -> None:
    ledger = history.workspace().ledger
    for merged in ledger.versions(PROJECT, "merged_model"):
        made = ledger.get(merged.id)
        base = {i.content_hash for i in made.inputs if i.role == "base_model"}
        parts = [ledger.get(i.version_id or 0) for i in made.inputs if i.role == "adapter"]
        starts = [ledger.get(i.version_id or 0) for a in parts for i in a.inputs
                  if i.role == "start"]  # fmt: skip
        assert len(parts) == 2
        assert {i.content_hash for s in starts for i in s.inputs if i.role == "base_model"} == base
    locations = {v.config["base_model"] for v in ledger.versions(PROJECT, "merged_model")}
    assert locations == set(BASES)


def test_a_second_look_at_the_last_day_builds_nothing(history: History) -> None:
    from fm_platform.lineage.status import status
    from fm_platform.stages.probe import probe

    ws, project = history.workspace(), history.project()
    rows = status(ws.ledger, project.spec, probe(ws, project))
    last = [row for row in rows if row.partition == day_name(60)]
    assert last
    assert {row.state for row in last} == {"fresh"}


@pytest.mark.parametrize(
    ("reference", "number"),
    [
        ("cleaned/2026-01-19", 21), ("adapter/chat", 25), ("champion", 35),
        ("weak_labels/2026-02-08", 39), ("merged_model", 40), ("evaluation", 60),
    ],
)  # fmt: skip
def test_versions_of_any_time_are_reproduced(
    history: History, reference: str, number: int, tmp_path: Path
) -> None:
    ws = history.workspace()
    plan = make_plan(ws, resolve(ws.ledger, PROJECT, reference, history.evening(number)))

    done = reproduce(ws, plan, tmp_path, history.project(), SilentReporter())

    assert plan.differences == ()
    assert done.equal, done.first_difference
