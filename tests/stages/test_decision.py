"""Promotion, refusal, canary and rollback leave their numbers in the ledger and in MLflow.

MLflow is the real one, in a database file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fm_platform.errors import AliasConflictError
from fm_platform.evaluation.gate import gate
from fm_platform.evaluation.metrics import SystemPredictions
from fm_platform.evaluation.table import evaluate
from fm_platform.home import Home
from fm_platform.lineage import ArtifactVersion, Input, Produced, Recipe, RunContext
from fm_platform.lineage.database import now
from fm_platform.spec.evaluation import Canary, Evaluation, Gate
from fm_platform.stages import canary as trial
from fm_platform.stages import versus
from fm_platform.stages.decision import decide
from fm_platform.stages.merged_model import name_challenger
from fm_platform.tracking.records import ModelRecord
from fm_platform.workspace import Workspace
from tests.stages.test_alerts import desk_of

RUN = RunContext(asked_by="test")
EVALUATION = Evaluation(bootstrap_samples=100)
CLASSES = ("a", "b")
DAYS = ("2026-01-03", "2026-01-04", "2026-01-05")


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One store for all tests of this file; each has a project of its own."""
    return Workspace.open(Home(tmp_path_factory.mktemp("home")))


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    return str(request.node.name.removeprefix("test_"))[:40]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def recorded(
    ws: Workspace, project: str, kind: str, content: str, day: str | None = None,
    inputs: tuple[Input, ...] = (), metrics: dict[str, Any] | None = None, name: str = "",
) -> ArtifactVersion:  # fmt: skip
    recipe = Recipe(project, kind, name or kind, day, inputs, "code", {"of": content}, "env", 0)
    made = Produced(f"{project}-{content}", {}, metrics=metrics or {})
    return ws.ledger.record(recipe, made, RUN, now(), now())


def model(ws: Workspace, project: str, name: str, weights: Path) -> ArtifactVersion:
    """Record a merged model that was trained up to the 2nd, and register it in MLflow."""
    data = Input("data", "cleaned", "2026-01-02", "rows")
    version = recorded(ws, project, "merged_model", name, inputs=(data,))
    ws.tracker.log_merged_model(
        ModelRecord(
            project, version.recipe_hash, version.content_hash, 1, 2, model_dir=str(weights)
        )
    )
    return version


def judged(
    ws: Workspace, merged: ArtifactVersion, right: int, champion: ArtifactVersion | None = None,
    rival: int = 0, canary: Canary | None = None,
) -> ArtifactVersion:  # fmt: skip
    """Evaluate a model that is right on so many of 200 rows, and decide."""
    gold = np.arange(200) % 2

    def system(count: int) -> SystemPredictions:
        labels = np.where(np.arange(200) < count, gold, 1 - gold)
        return SystemPredictions(labels, np.eye(2, dtype=np.float32)[labels])

    theirs = None if champion is None else system(rival)
    systems = {"merged_model": system(right), **({} if theirs is None else {"champion": theirs})}
    sources = ["mail"] * 200
    table = evaluate(systems, gold, sources, CLASSES, EVALUATION)
    verdict = gate(system(right), theirs, gold, sources, CLASSES, EVALUATION, Gate())
    metrics = {"gate": verdict.to_json(), "evaluation": table.to_json(merged.project, "")}
    version = recorded(
        ws, merged.project, "evaluation", f"evaluation of {merged.content_hash}", metrics=metrics
    )
    decide(ws, version, merged, champion, RUN, canary)
    return version


def compared_on(
    ws: Workspace, new: ArtifactVersion, old: ArtifactVersion, days: Sequence[str], gained: int
) -> None:
    """So many rows more right than wrong of 200 a day, 40 of which the two answer differently."""
    inputs = (new.as_input("champion"), old.as_input("predecessor"))
    for day in days:
        metrics = {"numbers": {"gold_rows": 200, "gained": gained, "changed": 40}}
        recorded(ws, new.project, "versus", f"{day}{gained}", day, inputs, metrics, "canary")


def in_mlflow(ws: Workspace, version: ArtifactVersion) -> tuple[dict[str, str], set[str]]:
    """Return the tags of the registered version of a model, and its aliases."""
    from mlflow import MlflowClient

    client = MlflowClient(ws.tracker.uri, ws.tracker.uri)
    (found,) = [
        one for one in client.search_model_versions(f"name = '{version.project}'")
        if one.tags["fm.recipe_hash"] == version.recipe_hash
    ]  # fmt: skip
    named = client.get_registered_model(version.project).aliases
    return found.tags, {alias for alias, n in named.items() if str(n) == str(found.version)}


def decided(ws: Workspace, project: str) -> list[tuple[str, int]]:
    return [(one["kind"], one["version_id"]) for one in ws.ledger.decisions(project)]


def test_promotion_and_refusal(ws: Workspace, project: str, weights: Path) -> None:
    first, worse = (model(ws, project, name, weights) for name in ("first", "worse"))

    judged(ws, first, 180)
    evaluation = judged(ws, worse, 120, first, 180)
    decide(ws, evaluation, worse, first, RUN)  # a second run decides nothing again

    assert decided(ws, project) == [("promotion", first.id), ("refusal", worse.id)]
    told, aliases = in_mlflow(ws, first)
    assert (told["fm.decision"], aliases) == ("promotion", {"champion"})
    assert json.loads(told["fm.decision.numbers"])["value"] == pytest.approx(0.9, abs=0.01)
    told, aliases = in_mlflow(ws, worse)
    assert (told["fm.decision"], aliases) == ("refusal", {"challenger"})
    refusal = ws.ledger.decisions(project)[-1]
    assert json.loads(told["fm.decision.numbers"]) == json.loads(json.dumps(refusal["numbers"]))
    assert told["fm.decision.reason"] == refusal["reason"]
    assert "Worse than the champion" in refusal["reason"]


def test_automatic_rollback(ws: Workspace, project: str, weights: Path) -> None:
    desk = desk_of(ws)
    old, young = (model(ws, desk.name, name, weights) for name in ("old", "young"))
    judged(ws, old, 180)
    judged(ws, young, 182, old, 180)
    compared_on(ws, young, old, DAYS[:2], gained=-20)

    assert versus.take_back(desk)

    told, aliases = in_mlflow(ws, old)
    assert (told["fm.decision"], aliases) == ("rollback", {"champion"})
    assert json.loads(told["fm.decision.numbers"])["points"] == -10.0
    told, aliases = in_mlflow(ws, young)
    assert (told["fm.decision"], aliases) == ("taken_back", set())
    assert json.loads(told["fm.decision.numbers"])["rows"] == 400
    assert ws.ledger.decisions(desk.name)[-1]["numbers"]["points"] == -10.0


def test_a_model_that_was_promoted_is_no_challenger(
    ws: Workspace, project: str, weights: Path
) -> None:
    first, worse = (model(ws, project, name, weights) for name in ("first", "worse"))
    name_challenger(ws, first, RUN)
    assert ws.ledger.aliases(project) == {"challenger": first.id}

    judged(ws, first, 180)
    name_challenger(ws, first, RUN)  # the next run, which merges the same again
    assert ws.ledger.aliases(project) == {"champion": first.id}

    name_challenger(ws, worse, RUN)
    judged(ws, worse, 120, first, 180)
    assert ws.ledger.aliases(project) == {"champion": first.id, "challenger": worse.id}


def tried_out(
    ws: Workspace, project: str, weights: Path, points: float = 0.0
) -> tuple[ArtifactVersion, ArtifactVersion, Canary]:
    """A champion, and a canary of three days."""
    old, new = (model(ws, project, name, weights) for name in ("old", "new"))
    declared = Canary(share=0.2, days=3, points=points)
    judged(ws, old, 180, canary=declared)  # the first of all is champion at once
    judged(ws, new, 182, old, 180, canary=declared)
    return old, new, declared


def test_a_canary_becomes_champion_after_its_days(
    ws: Workspace, project: str, weights: Path
) -> None:
    old, new, declared = tried_out(ws, project, weights)
    assert ws.ledger.alias(project, "champion") == old
    assert trial.live(ws, project) == (new, declared)
    assert in_mlflow(ws, new)[1] == {"canary", "challenger"}

    compared_on(ws, new, old, DAYS[:2], gained=2)
    assert trial.settle(ws, new, old, declared, "test") is None
    compared_on(ws, new, old, DAYS[2:], gained=2)
    assert trial.settle(ws, new, old, declared, "test") == "promotion"

    assert ws.ledger.alias(project, "champion") == new
    assert ws.ledger.alias(project, "canary") is None
    assert decided(ws, project) == [
        ("promotion", old.id), ("canary", new.id), ("promotion", new.id),
    ]  # fmt: skip
    told, aliases = in_mlflow(ws, new)
    assert (told["fm.decision"], aliases) == ("promotion", {"champion"})
    numbers = json.loads(told["fm.decision.numbers"])
    assert (numbers["points"], numbers["rows"], numbers["days"]) == (1.0, 600, list(DAYS))


def test_a_canary_that_surely_lost_goes_at_once(ws: Workspace, project: str, weights: Path) -> None:
    old, new, declared = tried_out(ws, project, weights)
    compared_on(ws, new, old, DAYS[:1], gained=-20)

    assert trial.settle(ws, new, old, declared, "test") == "refusal"

    assert ws.ledger.alias(project, "champion") == old
    assert trial.live(ws, project) is None
    told, aliases = in_mlflow(ws, new)
    assert (told["fm.decision"], aliases) == ("refusal", {"challenger"})
    assert json.loads(told["fm.decision.numbers"])["high"] < 0


def test_too_few_gold_rows_say_nothing_against_it(
    ws: Workspace, project: str, weights: Path
) -> None:
    old, new, declared = tried_out(ws, project, weights)
    inputs = (new.as_input("champion"), old.as_input("predecessor"))
    for day in DAYS:
        metrics = {"numbers": {"gold_rows": 1, "gained": -1, "changed": 1}}
        recorded(ws, project, "versus", day, day, inputs, metrics, "canary")

    assert trial.settle(ws, new, old, declared, "test") == "promotion"

    assert "too few gold rows" in ws.ledger.decisions(project)[-1]["reason"]


@pytest.mark.parametrize("step", ["record_decision", "set_champion", "log_decision"])
def test_a_death_between_two_steps_is_finished(
    ws: Workspace, weights: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = f"death_{step}"
    old, new, declared = tried_out(ws, project, weights)
    compared_on(ws, new, old, DAYS, gained=2)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ws.ledger if step == "record_decision" else ws.tracker, step, dies)
        with pytest.raises(KeyboardInterrupt):
            trial.settle(ws, new, old, declared, "test")
    champion = ws.ledger.alias(project, "champion")
    assert champion == new

    assert trial.settle(ws, new, champion, declared, "test") == "promotion"

    assert [kind for kind, _ in decided(ws, project)] == ["promotion", "canary", "promotion"]
    assert ws.ledger.alias(project, "canary") is None
    assert in_mlflow(ws, new)[1] == {"champion"}


def test_of_two_who_settle_one_is_told(ws: Workspace, project: str, weights: Path) -> None:
    old, new, declared = tried_out(ws, project, weights)
    compared_on(ws, new, old, DAYS, gained=2)
    other = model(ws, project, "other", weights)
    ws.ledger.set_alias(
        project, "champion", other.id, expected=old.id, reason="by hand", actor="person"
    )

    with pytest.raises(AliasConflictError):
        trial.settle(ws, new, old, declared, "test")

    assert ws.ledger.alias(project, "champion") == other


def test_a_newer_challenger_waits_until_a_canary_is_decided(
    ws: Workspace, project: str, weights: Path
) -> None:
    old, new, declared = tried_out(ws, project, weights)
    newer = model(ws, project, "newer", weights)

    evaluation = judged(ws, newer, 184, old, 180, canary=declared)
    decide(ws, evaluation, newer, old, RUN, declared)  # a second run says no more than the first

    assert trial.live(ws, project) == (new, declared)
    assert decided(ws, project)[-2:] == [("canary", new.id), ("waiting", newer.id)]
    told = str(ws.ledger.decisions(project)[-1]["reason"])
    assert f"canary {new.content_hash[:12]} is tried out since before" in told
    assert in_mlflow(ws, newer)[0]["fm.decision"] == "waiting"
    assert in_mlflow(ws, newer)[1] == {"challenger"}

    compared_on(ws, new, old, DAYS[:1], gained=-20)
    assert trial.settle(ws, new, old, declared, "test") == "refusal"
    decide(ws, evaluation, newer, old, RUN, declared)
    assert trial.live(ws, project) == (newer, declared)


def test_a_model_retrained_every_night_leaves_a_canary_its_days(
    ws: Workspace, project: str, weights: Path
) -> None:
    old, new, declared = tried_out(ws, project, weights)

    for night, day in enumerate(DAYS):
        compared_on(ws, new, old, [day], gained=2)
        trial.settle(ws, new, old, declared, "test")
        champion = ws.ledger.alias(project, "champion")
        assert champion is not None
        retrained = model(ws, project, f"night {night}", weights)
        judged(ws, retrained, 184, champion, 180, canary=declared)

    assert ws.ledger.alias(project, "champion") == new
    assert trial.live(ws, project) == (retrained, declared)  # the first after the trial


def test_rows_are_shared_out_by_their_id(ws: Workspace, project: str, weights: Path) -> None:
    one, other = (recorded(ws, project, "merged_model", name) for name in ("one", "other"))
    rows = [f"row {i}" for i in range(4000)]

    own = [trial.answers(one, row, 0.2) for row in rows]

    assert own == [trial.answers(one, row, 0.2) for row in rows]
    assert np.mean(own) == pytest.approx(0.2, abs=0.02)
    assert all(trial.answers(one, row, 0.5) for row, mine in zip(rows, own, strict=True) if mine)
    both = np.mean([trial.answers(other, row, 0.2) and m for row, m in zip(rows, own, strict=True)])
    assert both == pytest.approx(0.04, abs=0.02)
