from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from fm_platform.errors import FencedError, HomeError, LedgerError, NonReproducibleError
from fm_platform.hashing import sha256_hex
from fm_platform.lineage import database, schema
from fm_platform.lineage.environment import environment_hash
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import Input, RunContext
from tests.lineage.factory import EARLY, make_produced, make_recipe, record


def test_record_gives_back_everything(ledger: Ledger) -> None:
    recipe = make_recipe(seed=7, config={"b": [1, 2.5], "a": {"x": None}})
    produced = make_produced(parts={"mail": "ab"}, metrics={"n": 1}, bytes=9, mlflow_run_id="m1")
    run = RunContext("sensor:alert-3", "run-1", "c0ffee", True)

    made = ledger.record(recipe, produced, run, EARLY, EARLY + timedelta(seconds=2.5))

    assert (made.number, made.duration_s, made.created_at) == (1, 2.5, EARLY + timedelta(0, 2.5))
    assert (made.asked_by, made.dagster_run_id, made.git_commit, made.git_dirty) == (
        "sensor:alert-3", "run-1", "c0ffee", True,
    )  # fmt: skip
    assert (made.config, made.parts, made.metrics, made.seed) == (
        recipe.config, {"mail": "ab"}, {"n": 1}, 7,
    )  # fmt: skip
    assert made.inputs == recipe.inputs
    assert made.mlflow_run_id == "m1"
    assert ledger.lookup(recipe.hash) == made
    assert ledger.get(made.id) == made


def test_record_keeps_what_was_installed(ledger: Ledger) -> None:
    made = record(ledger, make_recipe())

    assert made.run_environment == environment_hash()
    assert ledger.document(environment_hash())["packages"]["sqlalchemy"]


def test_numbers_count_per_slot(ledger: Ledger) -> None:
    made = [
        record(ledger, make_recipe(code=code, partition=day), make_produced(code + day))
        for code in "ab"
        for day in ("2026-01-01", "2026-01-02")
    ]

    assert [(m.partition, m.number) for m in made] == [
        ("2026-01-01", 1), ("2026-01-02", 1), ("2026-01-01", 2), ("2026-01-02", 2),
    ]  # fmt: skip


def test_latest_is_the_version_in_use_not_the_last_computed(ledger: Ledger) -> None:
    old, new = make_recipe(code="a"), make_recipe(code="b")
    first = record(ledger, old, make_produced("1"))
    record(ledger, new, make_produced("2"))

    ledger.use(old, first)

    assert ledger.latest("shop", "raw", "raw", "2026-01-01") == first
    assert [head.id for head in ledger.heads("shop")] == [first.id]
    assert [use.version_id for use in ledger.uses("shop", "raw", "raw", "2026-01-01")] == [1, 2, 1]


def test_use_of_the_version_in_use_writes_nothing(ledger: Ledger) -> None:
    made = record(ledger, make_recipe())

    ledger.use(make_recipe(), made)

    assert len(ledger.uses("shop", "raw", "raw", "2026-01-01")) == 1


def test_questions_of_the_past_are_answered_as_of_then(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = [make_recipe(code=code) for code in "abc"]
    for hour, recipe in enumerate(recipes):
        at = EARLY + timedelta(hours=hour, minutes=1)
        monkeypatch.setattr(database, "now", lambda at=at: at)
        record(ledger, recipe, make_produced(recipe.code))

    def codes(at: datetime) -> list[str]:
        return [version.code for version in ledger.all_latest("shop", at=at)]

    assert codes(EARLY - timedelta(seconds=1)) == []
    assert codes(EARLY + timedelta(minutes=1)) == ["a"]
    assert codes(EARLY + timedelta(minutes=90)) == ["b"]
    assert codes(EARLY + timedelta(days=1)) == ["c"]
    found = ledger.latest("shop", "raw", "raw", "2026-01-01", at=EARLY + timedelta(minutes=59))
    assert found is not None
    assert found.code == "a"


def test_clock_set_back_does_not_reorder_history(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hours, code in ((5, "a"), (2, "b"), (6, "c")):
        at = EARLY + timedelta(hours=hours)
        monkeypatch.setattr(database, "now", lambda at=at: at)
        record(ledger, make_recipe(code=code), make_produced(code))

    spans = ledger.uses("shop", "raw", "raw", "2026-01-01")

    assert [span.since for span in spans] == sorted(span.since for span in spans)
    assert [version.code for version in ledger.all_latest("shop", at=EARLY + timedelta(0, 19000))] \
        == ["b"]  # fmt: skip


def test_what_was_in_use_when_something_was_made_is_known_though_the_clock_was_set_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for hours, day in ((5, "2026-01-01"), (2, "2026-01-02"), (1, "2026-01-03")):
        at = EARLY + timedelta(hours=hours)
        monkeypatch.setattr(database, "now", lambda at=at: at)
        recipe = make_recipe(partition=day)
        made.append(ledger.record(recipe, make_produced(day), RunContext(), at, at))

    assert [
        sorted(str(day) for _, _, day in ledger.slots_in_use("shop", at=version.created_at))
        for version in made
    ] == [[], ["2026-01-01"], ["2026-01-01", "2026-01-02"]]
    assert all(version.created_at < made[0].created_at + timedelta(seconds=1) for version in made)
    assert all(version.duration_s == 0 for version in made)


def test_times_are_instants_whatever_the_zone(ledger: Ledger) -> None:
    zone = timezone(timedelta(hours=-8))
    local = EARLY.astimezone(zone)

    made = ledger.record(make_recipe(), make_produced(), RunContext(), local, local)

    assert made.created_at == EARLY
    assert made.created_at.tzinfo is timezone.utc


def test_time_without_zone_is_refused(ledger: Ledger) -> None:
    naive = datetime(2026, 1, 1)

    with pytest.raises(sa.exc.StatementError, match="without a time zone"):
        ledger.record(make_recipe(), make_produced(), RunContext(), naive, naive)


def test_same_recipe_other_content_is_kept_and_raised(ledger: Ledger) -> None:
    recipe = make_recipe()
    made = record(ledger, recipe, make_produced("one"))

    with pytest.raises(NonReproducibleError, match="one recipe gave two contents"):
        record(ledger, recipe, make_produced("two"))

    (conflict,) = ledger.conflicts("shop")
    assert conflict.version == made
    assert conflict.content_hash == sha256_hex(b"two")
    assert ledger.latest("shop", "raw", "raw", "2026-01-01") == made


def test_rebuilt_version_moves_but_stays_one(ledger: Ledger) -> None:
    made = record(ledger, make_recipe())

    again = record(ledger, make_recipe(), replace(make_produced(), location={"file": "new"}))

    assert again == replace(made, location={"file": "new"})


def test_inputs_know_their_version(ledger: Ledger) -> None:
    above = record(ledger, make_recipe(), make_produced(parts={"mail": "ab" * 32}))
    recipe = make_recipe(kind="cleaned", name="cleaned", inputs=(above.as_input("raw", "mail"),))

    below = record(ledger, recipe, make_produced("other"))

    assert below.inputs[0].version_id == above.id
    assert ledger.inputs([above.id, below.id])[below.id] == below.inputs


def test_find_takes_a_prefix_of_either_hash(ledger: Ledger) -> None:
    made = record(ledger, make_recipe())

    assert ledger.find(made.content_hash[:8]) == [replace(made, inputs=())]
    assert [v.id for v in ledger.find(made.recipe_hash)] == [made.id]
    assert ledger.find("zz") == ledger.find("") == ledger.find("f' or 1") == []


def test_days_of_a_window(ledger: Ledger) -> None:
    for day in ("2026-01-03", "2026-01-01", "2026-01-02"):
        for name in ("b", "a"):
            recipe = make_recipe(kind="votes", name=name, partition=day)
            record(ledger, recipe, make_produced(name + day))

    found = ledger.latest_of_days("shop", "votes", "a", "2026-01-02", "2026-01-09")
    every = ledger.latest_of_days("shop", "votes", None, "2026-01-01", "2026-01-01")

    assert [v.partition for v in found] == ["2026-01-02", "2026-01-03"]
    assert [v.name for v in every] == ["a", "b"]
    assert ledger.last_partition("shop", "votes", "b") == "2026-01-03"
    assert ledger.last_partition("shop", "votes", "c") is None
    assert [v.number for v in ledger.versions("shop", "votes", "a", "2026-01-03")] == [1]
    assert len(ledger.versions("shop")) == 6
    assert len(ledger.get_many(range(100))) == 6


def test_projects_do_not_mix(ledger: Ledger) -> None:
    record(ledger, make_recipe())
    record(ledger, make_recipe(project="other"), make_produced("2"))

    assert [v.project for v in ledger.all_latest("other")] == ["other"]
    assert ledger.all_latest("shop", "cleaned") == []


def test_lease_is_checked_with_the_record(ledger: Ledger) -> None:
    lease = ledger.acquire_lease("shop/raw", "one")
    ledger.acquire_lease("shop/raw", "two")

    with pytest.raises(FencedError):
        ledger.record(make_recipe(), make_produced(), RunContext(), EARLY, EARLY, lease)

    assert ledger.versions("shop") == []


def test_unknown_version_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no version 7"):
        ledger.get(7)


def test_summary_is_computed_once(ledger: Ledger) -> None:
    calls: list[int] = []

    def compute() -> str:
        calls.append(1)
        return "value"

    assert ledger.derive("k", compute) == ledger.derive("k", compute) == "value"
    assert len(calls) == 1
    assert ledger.known_derived(["k", "other"]) == {"k": "value"}


def test_document_is_kept_once(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.remember("ab", "function", {"source": "def f(): ..."})

    assert ledger.document("ab") == {"source": "def f(): ..."}
    assert ledger.document("cd") is None


def test_newer_schema_is_refused(ledger: Ledger, ledger_url: str) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(schema.schema_version.update().values(version=99))

    with pytest.raises(LedgerError, match="newer version"):
        Ledger.open(ledger_url)


def test_older_ledger_is_brought_up_to_date_and_keeps_everything(
    ledger: Ledger, ledger_url: str
) -> None:
    made = record(ledger, make_recipe())
    ledger.record_decision("shop", "promotion", made.id, {}, "better")
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX current_by_version")
        connection.exec_driver_sql("DROP TABLE conflicts")
        connection.exec_driver_sql("ALTER TABLE decisions DROP COLUMN actor")
        connection.execute(schema.schema_version.update().values(version=1))

    again = Ledger.open(ledger_url)
    again.record_decision("shop", "refusal", made.id, {}, "worse", "gate")

    assert again.get(made.id) == made
    assert again.conflicts("shop") == []
    assert [d["actor"] for d in again.decisions("shop")] == [None, "gate"]
    with again.reading() as connection:
        indexes = {i["name"] for i in sa.inspect(connection).get_indexes("current")}
        versions = list(connection.scalars(sa.select(schema.schema_version.c.version)))
    assert "current_by_version" in indexes
    assert versions == [schema.SCHEMA_VERSION]


def test_mlflow_run_is_noted_once(ledger: Ledger) -> None:
    made = record(ledger, make_recipe())
    ledger.note_mlflow_run(made.id, "run-a")
    ledger.note_mlflow_run(made.id, "run-b")

    assert ledger.get(made.id).mlflow_run_id == "run-a"


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="cannot be opened"):
        Ledger.open(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.db'}")


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database at all" * 100)

    with pytest.raises(LedgerError, match="damaged"):
        Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_version_without_inputs(ledger: Ledger) -> None:
    assert record(ledger, make_recipe(inputs=())).inputs == ()


def test_many_inputs_are_kept_in_order(ledger: Ledger) -> None:
    items = tuple(Input("votes", f"f{n}", None, f"{n:04x}") for n in range(1200))

    assert record(ledger, make_recipe(inputs=items)).inputs == items
