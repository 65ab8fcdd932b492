from __future__ import annotations

from datetime import timedelta

import pytest

from fm_platform.errors import RefError
from fm_platform.lineage.history import log, log_of
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.refs import version_name
from fm_platform.lineage.view import record_of
from tests.lineage.factory import EARLY, make_produced, make_recipe, record
from tests.lineage.simulated import Simulation, make_spec


def test_every_use_is_told_with_what_changed(ledger: Ledger) -> None:
    first = make_recipe()
    old = record(ledger, first, make_produced("1"))
    record(ledger, make_recipe(config={"classes": ["good", "bad", "mixed"]}), make_produced("2"))
    ledger.use(first, old)

    told = log_of(ledger, "shop", "raw/2026-01-01")

    assert [entry.name.rpartition("#")[2] for entry in told] == ["1", "2", "1"]
    assert told[2].why == "first version"
    assert told[1].why.startswith("configuration changed (classes: ['good', 'bad'] -> ")
    assert told[0].why.startswith("back to an earlier version: configuration changed")
    assert told[0].until is None
    assert told[1].until == told[0].at


def test_aliases_and_decisions_are_told_in_order(ledger: Ledger) -> None:
    merged = record(ledger, make_recipe(kind="merged_model", name="merged_model", partition=None))
    ledger.set_alias("shop", "champion", merged.id, expected=None, reason="best", actor="gate")
    ledger.record_decision("shop", "promotion", merged.id, {}, "0.8 beats 0.7", "gate")
    ledger.set_alias("shop", "champion", None, expected=merged.id, reason="recall", actor="ann")

    told = log(ledger, "shop")

    assert [(e.what, e.why, e.actor) for e in told[:3]] == [
        ("alias champion", "taken away: recall", "ann"),
        ("promotion", "0.8 beats 0.7", "gate"),
        ("alias champion", "best", "gate"),
    ]
    assert [e.what for e in log_of(ledger, None, "champion")] == ["alias champion"] * 2
    assert [e.name for e in log_of(ledger, None, "champion")] == ["", version_name(merged)]


def test_a_kind_stands_for_all_its_days(ledger: Ledger) -> None:
    project = Simulation(ledger, make_spec())
    project.run()

    assert len(log_of(ledger, "shop", "raw")) == 4
    assert len(log_of(ledger, "shop", "raw/2026-01-02")) == 1
    assert len(log_of(ledger, "shop", "votes/plain_0")) == 4
    assert len(log_of(ledger, "shop", "votes/plain_0/2026-01-02")) == 1
    assert {e.name for e in log_of(ledger, "shop", "adapter")} == {
        "adapter/mail#1", "adapter/chat#1",
    }  # fmt: skip
    assert len(log_of(ledger, "shop", None, limit=7)) == 7


def test_a_hash_and_a_numbered_version_stand_for_their_slot(ledger: Ledger) -> None:
    made = record(ledger, make_recipe())
    record(ledger, make_recipe(code="new"), make_produced("new"))

    for text in (made.content_hash[:10], "raw/2026-01-01#1", f"#{made.id}"):
        assert len(log_of(ledger, "shop", text)) == 2


def test_the_past_knows_nothing_of_later(ledger: Ledger) -> None:
    record(ledger, make_recipe())
    then = ledger.uses("shop", "raw", "raw", "2026-01-01")[0].since
    record(ledger, make_recipe(code="new"), make_produced("new"))

    assert len(log_of(ledger, "shop", "raw", at=then)) == 1
    assert len(log_of(ledger, "shop", f"raw@{then.isoformat()}")) == 1
    with pytest.raises(RefError, match="nothing had happened"):
        log_of(ledger, "shop", "raw", at=then - timedelta(seconds=1))
    with pytest.raises(RefError, match="names no version"):
        log_of(ledger, "shop", "rwa")
    assert log_of(ledger, None, None, at=EARLY - timedelta(days=9)) == []


def test_the_record_of_a_version_is_whole(ledger: Ledger) -> None:
    project = Simulation(ledger, make_spec())
    project.run()
    head = ledger.latest("shop", "weak_labels", "weak_labels", "2026-01-03")
    assert head is not None

    told = record_of(ledger, head)

    assert (told["state"], told["reference"]) == ("fresh", "weak_labels/2026-01-03#1")
    assert [i["reference"] for i in told["inputs"] if i["role"] == "label_model"] == [
        "label_model/2026-01-03#1"
    ]
    assert [r["reference"] for r in told["read_by"]] == [
        "cleaned/2026-01-03#1", "evaluation#1",
    ]  # fmt: skip
    assert told["environment"]["packages"]
    assert told["code"]["modules"]
    assert told["in_use"] == [
        {"since": ledger.uses("shop", *head.slot)[0].since.isoformat(), "until": None}
    ]


def test_the_record_says_what_delta_version_was_read(ledger: Ledger) -> None:
    location = {"tables": {"raw": {"table": "shop/raw", "version": 7, "column": "day",
                                   "value": "2026-01-01", "rows": 3, "content_hash": "a" * 64,
                                   "files": []}}}  # fmt: skip
    raw = ledger.record(make_recipe(), type(make_produced())("a" * 64, location), *_run())
    recipe = make_recipe(kind="votes", name="vader", inputs=(raw.as_input("raw"),))
    votes = record(ledger, recipe, make_produced("votes"))

    (told,) = record_of(ledger, votes)["inputs"]

    assert (told["delta"]["table"], told["delta"]["version"]) == ("shop/raw", 7)
    assert record_of(ledger, raw)["tables"]["raw"]["version"] == 7


def _run() -> tuple[object, ...]:
    from fm_platform.lineage.records import RunContext

    return RunContext(), EARLY, EARLY


def test_a_replaced_version_says_so(ledger: Ledger) -> None:
    old = record(ledger, make_recipe(), make_produced("1"))
    record(ledger, make_recipe(code="b"), make_produced("2"))

    told = record_of(ledger, ledger.get(old.id))

    assert (told["state"], told["why"]) == ("replaced", "another version is in use")
    assert told["in_use"][0]["until"] is not None
