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
