"""Profile, reference and findings of a small project: built once, and kept in the ledger."""

from __future__ import annotations

from fm_platform.lineage import RunContext
from fm_platform.monitoring.profile import Profile
from fm_platform.stages import SilentReporter
from fm_platform.stages.watch import alerts_on, build_watch
from tests.stages.small import DAYS, Built


def test_a_day_is_compared_with_what_the_champion_was_trained_on(built: Built) -> None:
    ws, project, _ = built

    first = build_watch(ws, project, DAYS[1], RunContext(), SilentReporter())
    again = build_watch(ws, project, DAYS[1], RunContext(), SilentReporter())

    assert first.version.kind == "findings"
    assert again.reused
    assert first.metrics["tests"] > 0
    reference = ws.ledger.latest("small", "reference", "reference")
    champion = ws.ledger.alias("small", "champion")
    assert reference is not None
    assert champion is not None
    trained = {i.partition for i in champion.inputs if i.role == "data"}
    assert {i.partition for i in reference.inputs if i.role == "profile"} == trained
    assert len(alerts_on(ws, "small", DAYS[1])) == first.metrics["alerts"]


def test_the_profile_holds_no_row_that_was_trained_on(built: Built) -> None:
    ws, project, _ = built
    build_watch(ws, project, DAYS[0], RunContext(), SilentReporter())
    version = ws.ledger.latest("small", "profile", "profile", DAYS[0])
    assert version is not None

    profile = Profile.from_table(ws.columns.get(str(version.location["column"])))

    assert profile.sample is not None
    assert "train" not in profile.sample["split"].to_pylist()
    assert profile.rows["all"] == version.rows
    assert {"function:bad_words", "embedding:text", "label:weak"} <= set(profile.slices["mail"])


def test_a_check_says_in_words_what_was_found(built: Built) -> None:
    ws, project, _ = built

    result = build_watch(ws, project, DAYS[1], RunContext(), SilentReporter())

    (check,) = result.checks
    assert check.name == "drift"
    assert not check.blocking
    assert "champion" in check.description or check.metadata["alerts"]


def test_a_canary_is_compared_on_the_gold_of_a_day_and_goes_where_it_lost(built: Built) -> None:
    ws, project, results = built
    tried, champion = results["mail"].version, ws.ledger.alias("small", "champion")
    assert champion is not None
    ws.ledger.set_alias("small", "canary", tried.id, expected=None, reason="", actor="test")
    numbers = {"canary": {"share": 0.5, "days": 3}}
    ws.ledger.record_decision("small", "canary", tried.id, numbers, "passed the gate", "test")

    build_watch(ws, project, DAYS[1], RunContext(), SilentReporter())

    compared = ws.ledger.latest("small", "versus", "canary", DAYS[1])
    assert compared is not None
    told = {i.role: i.content_hash for i in compared.inputs}
    assert told["champion"] == tried.content_hash
    assert told["predecessor"] == champion.content_hash
    answers = ws.ledger.latest("small", "answers", "champion", DAYS[1])
    assert answers is not None
    assert champion.content_hash in {i.content_hash for i in answers.inputs}
    decision = ws.ledger.decisions("small")[-1]  # one expert alone is surely worse than the merge
    assert (decision["kind"], decision["version_id"]) == ("refusal", tried.id)
    assert decision["numbers"]["rows"] == compared.metrics["numbers"]["gold_rows"] > 30
    assert decision["numbers"]["high"] < 0
    assert ws.ledger.alias("small", "canary") is None
    assert ws.ledger.alias("small", "champion") == champion


def test_a_trial_that_a_rollback_brought_back_is_decided_anew(built: Built) -> None:
    ws, project, results = built
    ledger, tried = ws.ledger, results["mail"].version
    champion = ledger.alias("small", "champion")
    assert champion is not None
    numbers = {"canary": {"share": 0.5, "days": 30, "points": 100}}
    ledger.record_decision("small", "canary", tried.id, numbers, "passed the gate", "test")
    ended = {"tried": "canary"}
    ledger.record_decision("small", "promotion", tried.id, ended, "its days are over", "test")
    ledger.set_alias("small", "canary", tried.id, expected=None, reason="back", actor="test")
    back = {"aliases": {"canary": tried.id, "champion": champion.id}}
    ledger.record_decision("small", "rollback", tried.id, back, "back into the trial", "test")

    build_watch(ws, project, DAYS[1], RunContext(), SilentReporter())

    named = ledger.alias("small", "canary")
    assert named is not None  # and not ended as it was then
    assert named.id == tried.id
    assert ledger.alias("small", "champion") == champion
    assert ledger.decisions("small")[-1]["kind"] == "rollback"
