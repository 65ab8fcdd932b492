from __future__ import annotations

from dataclasses import replace

import pytest

from fm_platform.lineage.ledger import Ledger
from fm_platform.spec.models import ProjectSpec
from tests.lineage.simulated import Function, Simulation, make_spec

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]


@pytest.fixture
def project(ledger: Ledger) -> Simulation:
    return Simulation(ledger, make_spec())


@pytest.fixture
def built(project: Simulation) -> Simulation:
    project.run()
    return project


def test_nothing_built_says_where_to_begin(project: Simulation) -> None:
    assert set(project.states()) == {"unbuilt"}
    assert project.row("raw", day=DAYS[0]).why == "never built"
    assert project.row("cleaned", day=DAYS[0]).why == "raw is not built"
    assert project.row("evaluation").why == "raw 2026-01-01 is not built"
    assert {row.action for row in project.plan()} == {"build"}


def test_every_slot_is_there_in_build_order(project: Simulation) -> None:
    kinds = [row.kind for row in project.status()]

    per_day = ["raw", "embeddings", "votes", "votes", "votes", "label_model", "weak_labels",
               "cleaned"]  # fmt: skip
    assert kinds == [*per_day * 4, "start", "adapter", "adapter", "merged_model", "evaluation"]


def test_built_project_is_fresh_and_plans_nothing(built: Simulation) -> None:
    assert set(built.states()) == {"fresh"}
    assert built.plan() == []
    assert built.run() == []


def test_row_shows_the_version_in_use(built: Simulation) -> None:
    head = built.ledger.latest("shop", "cleaned", "cleaned", DAYS[1])
    row = built.row("cleaned", day=DAYS[1])

    assert head is not None
    assert (row.recipe_hash, row.content_hash, row.rows, row.created_at) == (
        head.recipe_hash, head.content_hash, 10, head.created_at,
    )  # fmt: skip


def test_alias_is_shown(built: Simulation) -> None:
    merged = built.ledger.latest("shop", "merged_model", "merged_model")
    assert merged is not None
    for alias in ("canary", "champion"):
        built.ledger.set_alias(
            "shop", alias, merged.id, expected=None, reason="first", actor="gate"
        )

    assert built.row("merged_model").alias == "canary, champion"
    assert built.row("start", "shared_start").alias is None


def test_promotion_of_the_evaluated_model_leaves_the_evaluation_fresh(built: Simulation) -> None:
    merged = built.ledger.latest("shop", "merged_model", "merged_model")
    assert merged is not None
    built.ledger.set_alias("shop", "champion", merged.id, expected=None, reason="", actor="gate")

    assert built.row("evaluation").state == "fresh"


def test_changed_source_is_named_along_the_path(built: Simulation) -> None:
    built.sources["chat", DAYS[1]] = "chat with other bytes"

    raw = built.row("raw", day=DAYS[1])
    cleaned = built.row("cleaned", day=DAYS[1])
    adapter = built.row("adapter", "mail")

    assert (raw.state, raw.action, raw.why) == (
        "stale", "build", "source chat 2026-01-02 changed",
    )  # fmt: skip
    assert (cleaned.state, cleaned.action) == ("stale", "check")
    assert cleaned.why == ("weak_labels is stale, through raw: source chat 2026-01-02 changed")
    assert adapter.why == (
        "shared_start (and 3 more) is stale, through cleaned 2026-01-02, weak_labels, raw: "
        "source chat 2026-01-02 changed"
    )
    assert built.row("raw", day=DAYS[0]).state == "fresh"
    assert built.row("cleaned", day=DAYS[0]).state == "fresh"


def test_edited_function_recomputes_its_column_only(built: Simulation) -> None:
    built.edit("plain_1", "other source")

    to_build = [(r.kind, r.name) for r in built.plan() if r.action == "build"]
    made = built.run()

    assert to_build == [("votes", "plain_1")] * 4
    assert built.row("votes", "plain_1", DAYS[0]).state == "fresh"
    assert ("votes", "plain_0", DAYS[0]) not in made
    assert ("raw", "raw", DAYS[0]) not in made
    assert set(built.states()) == {"fresh"}


def test_edited_function_is_the_cause_everywhere_below(built: Simulation) -> None:
    built.edit("plain_1", "other source")

    whys = {row.why for row in built.plan()}

    assert "labeling function plain_1 changed" in whys
    assert all(why.endswith("labeling function plain_1 changed") for why in whys)


def test_edit_that_changes_no_vote_stops_there(built: Simulation) -> None:
    for day in DAYS:
        version = built.ledger.latest("shop", "votes", "plain_1", day)
        assert version is not None
        built.same_content["votes", "plain_1", day] = version.content_hash
    built.edit("plain_1", "other source, same votes")

    made = built.run()

    assert made == [("votes", "plain_1", day) for day in DAYS]
    assert set(built.states()) == {"fresh"}


def test_new_version_above_makes_only_its_readers_stale(built: Simulation) -> None:
    built.sources["mail", DAYS[3]] = "new bytes"
    built.run(only={"raw"})

    stale = {(row.kind, row.partition) for row in built.plan()}

    assert built.row("embeddings", day=DAYS[3]).why == "raw 2026-01-04 changed"
    assert {day for _kind, day in stale if day} == {DAYS[3]}
    assert ("start", None) in stale


def test_new_day_makes_models_stale(ledger: Ledger) -> None:
    project = Simulation(ledger, make_spec(days=3))
    project.run()
    grown = Simulation(ledger, make_spec(days=4))

    assert grown.row("raw", day=DAYS[3]).state == "unbuilt"
    assert grown.row("cleaned", day=DAYS[2]).state == "fresh"
    adapter = grown.row("adapter", "mail")
    assert (adapter.state, adapter.action) == ("stale", "check")
    assert "raw 2026-01-04 is not built" in adapter.why


def test_hole_in_the_calendar_is_unbuilt_and_named(ledger: Ledger) -> None:
    project = Simulation(ledger, make_spec())
    days = project.days
    project.days = [day for day in days if day != DAYS[1]]
    project.run()
    project.days = days

    assert project.row("raw", day=DAYS[1]).state == "unbuilt"
    assert project.row("weak_labels", day=DAYS[0]).state == "fresh"
    later = project.row("label_model", day=DAYS[2])
    assert (later.state, later.action) == ("stale", "check")
    assert later.why == ("votes learned_0 (and 3 more) is stale: raw 2026-01-02 is not built")


def test_schedule_and_owners_change_nothing(built: Simulation) -> None:
    fields = built.spec.model_dump()
    fields["schedule"] = {"cron": "5 5 * * *"}
    fields["owners"] = ("team:other",)
    built.spec = ProjectSpec(**fields)

    assert built.plan() == []


def test_training_setting_rebuilds_models_not_tables(built: Simulation) -> None:
    fields = built.spec.model_dump()
    fields["training"] = {"learning_rate": 0.01}
    built.spec = ProjectSpec(**fields)

    assert built.states() == {
        "fresh": {"raw", "embeddings", "votes", "label_model", "weak_labels", "cleaned"},
        "stale": {"start", "adapter", "merged_model", "evaluation"},
    }
    assert built.row("start", "shared_start").why == (
        "configuration changed (training.learning_rate: 0.002 -> 0.01)"
    )


def test_other_base_model_rebuilds_what_it_made(built: Simulation) -> None:
    built.base = "another base model"

    whys = {row.why for row in built.plan()}

    assert built.row("votes", "plain_0", DAYS[0]).state == "fresh"
    assert built.row("embeddings", day=DAYS[0]).why == "base_model changed"
    assert built.row("start", "shared_start").state == "stale"
    assert all("base_model changed" in why for why in whys)


def test_gold_rows_that_may_have_changed_are_checked(built: Simulation) -> None:
    # the gold table of a day changed, and nobody has summed it up again
    with built.ledger._write() as connection:
        connection.exec_driver_sql("delete from derived")

    row = built.row("label_model", day=DAYS[0])

    assert (row.state, row.action) == ("stale", "check")
    assert row.why == (
        "votes learned_0 is stale: the exemplars or their votes in its window may have changed"
    )


@pytest.mark.parametrize(
    ("needs", "after_edit", "after_gold"),
    [
        (("gold",), "fresh", "stale"),
        (("votes",), "stale", "fresh"),
        (("gold", "votes"), "stale", "stale"),
    ],
)
def test_a_function_is_stale_for_what_it_learns_from_alone(
    built: Simulation, needs: tuple[str, ...], after_edit: str, after_gold: str
) -> None:
    built.functions[-1] = replace(built.functions[-1], needs=needs)
    built.run()
    kept = built.functions[0]

    built.edit("plain_0", "other source")
    edited = built.row("votes", "learned_0", DAYS[0])
    built.functions[0] = kept
    with built.ledger._write() as connection:  # nobody has summed the gold rows up again
        connection.exec_driver_sql("delete from derived")
    asked = built.row("votes", "learned_0", DAYS[0])

    assert (edited.state, asked.state) == (after_edit, after_gold)


def test_function_that_came_is_built_for_every_day(built: Simulation) -> None:
    built.functions.insert(0, Function("newcomer", "its source"))

    assert built.row("votes", "newcomer", DAYS[0]).state == "unbuilt"
    assert built.row("votes", "plain_0", DAYS[0]).state == "fresh"
    assert built.row("weak_labels", day=DAYS[0]).why == "votes newcomer is not built (and 2 more)"


def test_order_of_functions_counts_where_votes_are_put_in_order(built: Simulation) -> None:
    built.functions[:2] = reversed(built.functions[:2])

    stale = {row.kind for row in built.plan() if row.action == "build"}

    assert stale == {"label_model", "weak_labels"}
    assert built.row("votes", "plain_0", DAYS[0]).state == "fresh"


def test_function_that_went_is_no_longer_wanted(built: Simulation) -> None:
    del built.functions[0]

    assert "plain_0" not in {row.name for row in built.status()}
    assert "plain_0 2026-01-01 is gone" in built.row("label_model", day=DAYS[0]).why


def test_going_back_needs_no_work(built: Simulation) -> None:
    first = [row.content_hash for row in built.status()]
    built.edit("plain_0", "other")
    built.run()
    built.edit("plain_0", "source of plain_0")

    made = built.run()

    assert made == []
    assert [row.content_hash for row in built.status()] == first


def test_project_without_days_is_unbuilt(ledger: Ledger) -> None:
    project = Simulation(ledger, make_spec())
    project.days = []

    rows = project.status()

    assert [row.kind for row in rows] == [
        "start", "adapter", "adapter", "merged_model", "evaluation",
    ]  # fmt: skip
    assert {row.state for row in rows} == {"unbuilt"}


def test_a_year_is_judged_like_a_week(ledger: Ledger) -> None:
    project = Simulation(ledger, make_spec(days=40), functions=3, learning=1)
    project.run()
    assert project.plan() == []

    project.sources["chat", "2026-01-09"] = "changed"
    row = project.row("adapter", "chat")

    assert row.why.endswith("source chat 2026-01-09 changed")
