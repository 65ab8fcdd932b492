"""A young champion that surely loses on live gold is put back within a tick."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.lineage import ArtifactVersion, Input, Produced, Recipe, RunContext
from fm_platform.lineage.database import now
from fm_platform.stages import versus
from fm_platform.stages.alerts import Desk
from fm_platform.tracking.records import DecisionRecord
from fm_platform.workspace import Workspace
from tests.stages.test_alerts import desk_of


class Registry:
    """What MLflow is told; the registry itself has tests of its own."""

    def __init__(self) -> None:
        self.champions: list[str] = []
        self.decisions: list[DecisionRecord] = []

    def set_champion(self, project: str, recipe_hash: str, reason: str) -> None:
        self.champions.append(recipe_hash)

    def log_decision(self, record: DecisionRecord) -> None:
        self.decisions.append(record)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    ws = Workspace.open(Home(tmp_path / "home"))
    ws.__dict__["tracker"] = Registry()
    return desk_of(ws)


def record(
    desk: Desk, kind: str, content: str, day: str | None = None,
    inputs: tuple[Input, ...] = (), numbers: dict[str, int] | None = None,
) -> ArtifactVersion:  # fmt: skip
    recipe = Recipe("shop", kind, kind, day, inputs, "code", {"content": content}, "env", 0)
    made = Produced(content, {}, metrics={"numbers": numbers or {}})
    return desk.ws.ledger.record(recipe, made, RunContext(), now(), now())


def promoted(desk: Desk) -> tuple[ArtifactVersion, ArtifactVersion]:
    before, champion = (record(desk, "merged_model", name) for name in ("old", "new"))
    for version, expected in ((before, None), (champion, before.id)):
        desk.ws.ledger.set_alias(
            "shop", "champion", version.id, expected=expected, reason="gate", actor="person"
        )
    return before, champion


def lived(desk: Desk, before: ArtifactVersion, champion: ArtifactVersion, gained: int) -> None:
    """Two days with 200 gold rows each: right on 10 that the old one got wrong, and so on."""
    inputs = (champion.as_input("champion"), before.as_input("predecessor"))
    for day in ("2026-01-03", "2026-01-04"):
        numbers = {"gold_rows": 200, "gained": gained, "changed": 40}
        record(desk, "versus", f"{day}{gained}", day, inputs, numbers)


def test_a_champion_that_surely_lost_is_put_back_once(desk: Desk) -> None:
    before, champion = promoted(desk)
    lived(desk, before, champion, gained=-20)

    assert versus.take_back(desk)
    assert not versus.take_back(desk)

    assert desk.ws.ledger.alias("shop", "champion") == before
    (move,) = [m for m in desk.ws.ledger.alias_history("shop", "champion") if m.actor == "alerts"]
    assert "10.0 points more often" in move.reason
    assert desk.ws.tracker.champions == [before.recipe_hash]  # type: ignore[attr-defined]
    told = desk.ws.tracker.decisions  # type: ignore[attr-defined]
    assert [(one.recipe_hash, one.decision, one.numbers["points"]) for one in told] == [
        (before.recipe_hash, "rollback", -10.0), (champion.recipe_hash, "taken_back", -10.0),
    ]  # fmt: skip


def test_one_that_lost_by_chance_or_a_little_stays(desk: Desk) -> None:
    before, champion = promoted(desk)
    lived(desk, before, champion, gained=-5)

    assert not versus.take_back(desk)
    assert desk.ws.ledger.alias("shop", "champion") == champion


def test_a_champion_that_stood_its_time_stays(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    before, champion = promoted(desk)
    lived(desk, before, champion, gained=-20)
    monkeypatch.setattr(versus, "now", lambda: now() + timedelta(days=8))

    assert not versus.take_back(desk)


def test_what_was_measured_of_another_pair_does_not_count(desk: Desk) -> None:
    before, champion = promoted(desk)
    lived(desk, champion, before, gained=-20)

    assert not versus.take_back(desk)
