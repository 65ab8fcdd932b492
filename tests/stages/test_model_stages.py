"""The model stages on a small project and a tiny base: build, reuse, damage, promote, predict."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.spec.models import Taxonomy
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.evaluation import ABSTAIN, _Evaluation
from fm_platform.stages.evidence import Evidence
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.predict import classifier
from fm_platform.training.predict import predict_probabilities
from fm_platform.workspace import Workspace
from tests.lineage.factory import make_produced, make_recipe, record
from tests.stages.small import DAYS, Built, build_days, build_models
from tests.support.tiny_model import CLASSES, WORDS


def test_the_chain_learns_what_the_words_say(built: Built) -> None:
    _, _, results = built
    rows = results["evaluation"].version.metrics["evaluation"]["rows"]
    scores = {r["system"]: r["f1_weighted"]["value"] for r in rows if r["source"] == "all"}

    assert set(scores) == {
        "merged_model", "expert:mail", "expert:chat", "router", "shared_start",
        "label_model", "majority_vote", "words",
    }  # fmt: skip
    assert scores["label_model"] > 0.95
    assert scores["merged_model"] > 0.8
    assert all(c.passed or not c.blocking for result in results.values() for c in result.checks)


def test_the_first_model_becomes_champion_and_answers(built: Built) -> None:
    ws, loaded, results = built

    champion = ws.ledger.alias("small", "champion")
    assert champion is not None
    texts = [f"the is a {word} {word} now" for label in CLASSES for word in WORDS[label]]
    told = predict_probabilities(classifier(ws, loaded, champion), texts, max_tokens=24)

    assert champion.content_hash == results["merged"].version.content_hash
    assert np.mean(told.argmax(axis=1) == np.repeat([0, 1, 2], 5)) > 0.6
    assert [d["kind"] for d in ws.ledger.decisions("small")] == ["promotion"]


def test_a_second_run_computes_nothing_and_decides_nothing(built: Built) -> None:
    ws, loaded, first = built

    again = build_models(ws, loaded)

    assert all(result.reused for result in again.values())
    assert {k: r.version.content_hash for k, r in again.items()} == {
        k: r.version.content_hash for k, r in first.items()
    }
    assert len(ws.ledger.decisions("small")) == 1


def test_gold_dev_rows_decide_how_experts_are_merged(built: Built) -> None:
    ws, loaded, results = built
    merged = results["merged"].version
    last = str(ws.ledger.all_latest("small", "cleaned")[-1].partition)
    evidence = Evidence(ws, loaded.spec, last)
    rows = evidence.rows()

    assert [i.content_hash for i in merged.inputs if i.role == "gold"] == [evidence.hash]
    assert rows is not None
    assert 0 < rows.num_rows <= 2 * loaded.spec.gold.dev_rows_per_source
    assert all(sorted(row) == [0, 0, 1] for row in rows["probabilities"].to_pylist())


def damage(ws: Workspace, version: ArtifactVersion) -> None:
    alone = ws.models.unnamed(frozenset({version.content_hash}))  # no other model heals them
    weights = ws.models.objects.path(max(alone, key=ws.models.objects.size))
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["start", "mail", "merged"])
def test_a_damaged_model_is_built_again_bit_for_bit(built: Built, name: str) -> None:
    ws, loaded, first = built
    version = first[name].version
    damage(ws, version)

    again = build_models(ws, loaded)[name]

    assert not again.reused
    assert "damaged" in again.reason or "sha256" in again.reason
    assert again.version.content_hash == version.content_hash
    ws.models.verify(version.content_hash)


def test_a_label_model_that_came_later_is_not_on_the_card(built: Built) -> None:
    ws, loaded, first = built
    version, day = first["merged"].version, DAYS[-1]
    used = ws.ledger.latest("small", "label_model", "label_model", day)
    assert used is not None
    told = {"functions": [{**row, "coverage": 0.123} for row in used.metrics["functions"]]}
    slot = {"project": "small", "kind": "label_model", "name": "label_model", "partition": day}
    record(ws.ledger, make_recipe(**slot), make_produced("other", metrics=told))
    try:
        now = ws.ledger.latest("small", "label_model", "label_model", day)
        assert now is not None
        assert now.metrics == told
        damage(ws, version)
        again = build_merged_model(ws, loaded, RunContext(), SilentReporter())
        assert not again.reused
        assert again.version.content_hash == version.content_hash
        assert "bad\\_words" in (ws.model_path(again.version) / "README.md").read_text("utf-8")
    finally:
        build_days(ws, loaded)


def test_an_evaluation_names_what_it_refuses_and_what_it_leaves_out(built: Built) -> None:
    from dataclasses import replace

    from pydantic import TypeAdapter

    from fm_platform.lineage import RunContext
    from fm_platform.spec.behaviour import Behaviour
    from fm_platform.spec.evaluation import Leaks
    from fm_platform.stages import SilentReporter
    from fm_platform.stages.evaluation import build_evaluation

    ws, loaded, _ = built
    praise, blame = WORDS["positive"][0], WORDS["negative"][0]
    texts = {"templates": ["{good} {good}"], "fill": {"good": [praise]}}
    declared = [
        {"name": "praise", "kind": "functionality", "labels": "positive", "texts": texts},
        {"name": "backwards", "kind": "functionality", "labels": "negative", "texts": texts},
        {
            "name": "blame_hurts", "kind": "direction", "label": "positive", "moves": "down",
            "texts": {"rows": 20}, "change": {"append": [f" {blame} {blame} {blame}"]},
            "required": False,
        },
    ]  # fmt: skip
    tests = tuple(TypeAdapter(Behaviour).validate_python(test) for test in declared)
    alike = Leaks(action="set_aside", similarity=0.4)
    changes = {"behaviour": tests, "leaks": alike}
    evaluation = loaded.spec.evaluation.model_copy(update=changes)
    spec = loaded.spec.model_copy(update={"evaluation": evaluation})

    result = build_evaluation(ws, replace(loaded, spec=spec), RunContext(), SilentReporter())
    build_evaluation(ws, loaded, RunContext(), SilentReporter())  # the one before is in use again

    found = {record["name"]: record for record in result.tables["behaviour"]}
    assert (found["praise"]["ok"], found["backwards"]["ok"]) == (True, False)
    assert found["blame_hurts"]["share"] > 0.6
    (gate,) = [check for check in result.checks if check.name == "gate"]
    assert not gate.passed
    assert "ehaviour test 'backwards' passes in 0 of 1 cases" in gate.description
    assert ws.ledger.decisions("small")[-1]["kind"] == "refusal"
    (leaks,) = [check for check in result.checks if check.name == "leaks"]
    aside = tables.read(ws, result.version, "quarantine")
    told = tables.read(ws, result.version, "predictions", ["row_id"])["row_id"].to_pylist()
    assert leaks.passed
    assert aside.num_rows == leaks.metadata["leaked"] > 0
    assert len(set(told)) == leaks.metadata["test_rows"] - aside.num_rows
    assert not set(told) & set(aside["row_id"].to_pylist())
    stored = str(result.version.metrics["behaviour"])
    assert "chat2026" not in stored  # rows by id only
    assert "mail2026" not in stored


def test_a_champion_of_former_classes_is_read_in_those_of_today(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loaded, results = built
    merged = results["merged"].version
    changed = Taxonomy.model_validate({
        "version": 2, "classes": ["bad", "positive"],
        "changes": [{"version": 2, "rename": {"negative": "bad"}, "remove": ["neutral"]}],
    })  # fmt: skip
    judge = object.__new__(_Evaluation)
    judge.spec = loaded.spec.model_copy(update={"taxonomy": changed})
    judge.classes, judge.rows = ["bad", "positive"], pa.table({"text": ["a", "b", "c"]})
    assert merged.config["classes"] == ["negative", "neutral", "positive"]
    monkeypatch.setattr(_Evaluation, "_probabilities", lambda *_: np.eye(3, dtype=np.float32))

    assert judge._answers(merged).labels.tolist() == [0, ABSTAIN, 1]


def test_constraints_keep_a_model_out_and_time_is_in_no_content(built: Built) -> None:
    from dataclasses import replace

    from fm_platform.lineage import RunContext
    from fm_platform.spec.models import Gate, ProjectSpec
    from fm_platform.stages import SilentReporter
    from fm_platform.stages.evaluation import build_evaluation

    ws, loaded, _ = built
    slices = [
        {"name": "short", "column": "word_count", "operator": "<", "value": 6},
        {"name": "long", "column": "word_count", "operator": ">=", "value": 6},
    ]
    whole = ProjectSpec.model_validate({**loaded.spec.model_dump(), "slices": slices})

    def requirements(**constraints: object) -> tuple[dict[str, dict[str, object]], str, bool]:
        gate = Gate.model_validate({"constraints": constraints})
        spec = whole.model_copy(update={"gate": gate})
        result = build_evaluation(ws, replace(loaded, spec=spec), RunContext(), SilentReporter())
        found = {str(r["name"]): r for r in result.tables["requirements"]}
        (check,) = [check for check in result.checks if check.name == "gate"]
        return found, result.version.content_hash, check.passed

    hurried = {"at_most_ms": 0.0001, "percentile": 50, "texts": 20}
    found, content, promoted = requirements(
        latency=hurried, confidence=0.9,
        largest_gap=[{"between": ["short", "long"], "at_most": 0.9}],
        false_positives=[{"label": "positive", "at_most": 0.9}],
    )  # fmt: skip
    patient, other, allowed = requirements(
        latency={**hurried, "at_most_ms": 60_000.0}, confidence=0.9
    )  # fmt: skip
    build_evaluation(ws, loaded, RunContext(), SilentReporter())  # the one before is in use again

    assert not promoted
    assert not found["latency"]["ok"]
    assert "with 90% confidence" in str(found["latency"]["told"])
    assert found["false positives of positive"]["ok"]
    assert "slice short has 0" in str(found["gap between slice short, long"]["told"])
    assert allowed
    assert patient["latency"]["ok"]
    assert other != content


def test_what_is_timed_is_in_no_content(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built again where an answer takes a minute: another verdict, the same content."""
    from dataclasses import replace

    from fm_platform.evaluation import latency
    from fm_platform.lineage import RunContext
    from fm_platform.spec.models import Gate
    from fm_platform.stages import SilentReporter
    from fm_platform.stages.common import StageResult
    from fm_platform.stages.evaluation import build_evaluation

    ws, loaded, _ = built
    rule = {"latency": {"at_most_ms": 30_000, "percentile": 50, "texts": 20}}
    gate = Gate.model_validate({"constraints": rule})
    timed = replace(loaded, spec=loaded.spec.model_copy(update={"gate": gate}))

    def evaluate(twin: ArtifactVersion | None = None) -> StageResult:
        return build_evaluation(ws, timed, RunContext(), SilentReporter(), twin)

    def forgotten(version: ArtifactVersion) -> None:
        """Damage the predictions, so that the evaluation is computed again."""
        ref = ws.table_ref(version, "predictions")
        path = ws.home.lake / ref.table / ref.files[0].path
        path.write_bytes(path.read_bytes()[:-9])

    first = evaluate()
    monkeypatch.setattr(
        latency, "answer_times", lambda answer, texts: np.full(len(texts), 60_000.0)
    )
    forgotten(first.version)
    slow = evaluate()
    forgotten(slow.version)
    again = evaluate(twin=first.version)
    build_evaluation(ws, loaded, RunContext(), SilentReporter())  # the one before is in use again

    assert not slow.reused
    assert not again.reused
    assert slow.version.content_hash == first.version.content_hash == again.version.content_hash
    told = [result.version.metrics["gate"]["promote"] for result in (first, slow, again)]
    assert told == [True, False, True]
