"""The table has the promised JSON form and readable texts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fm_platform.errors import EvaluationError
from fm_platform.evaluation.metrics import SystemPredictions
from fm_platform.evaluation.table import EvaluationTable, evaluate
from fm_platform.spec.models import Evaluation

CLASSES = ("negative", "neutral", "positive")
FAST = Evaluation(bootstrap_samples=100)


@pytest.fixture(scope="module")
def table() -> EvaluationTable:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 300)
    probabilities = rng.dirichlet(np.ones(3), 300)
    model = SystemPredictions(probabilities.argmax(axis=1), probabilities)
    rated = np.arange(300) < 150
    systems = {
        "human": SystemPredictions(gold, None, rated),
        "vader": SystemPredictions(rng.integers(-1, 3, 300)),
        "majority_vote": model,
        "label_model": model,
        "expert:b": model,
        "expert:a": model,
        "champion": model,
        "merged_model": model,
    }
    return evaluate(systems, gold, ["tweets", "movies"] * 150, CLASSES, FAST)


def test_systems_stand_in_reading_order(table: EvaluationTable) -> None:
    assert table.systems == [
        "merged_model", "champion", "expert:a", "expert:b", "label_model", "majority_vote",
        "vader", "human",
    ]  # fmt: skip
    assert table.sources == ["all", "movies", "tweets"]


def test_json_has_the_documented_form(table: EvaluationTable) -> None:
    value = json.loads(json.dumps(table.to_json("sentiment", "ab" * 32)))

    assert list(value) == ["project", "evaluation", "rows"]
    assert (value["project"], value["evaluation"]) == ("sentiment", "ab" * 32)
    row = value["rows"][0]
    assert list(row) == [
        "system", "source", "n", "f1_weighted", "f1_macro", "accuracy", "log_loss", "ece",
    ]  # fmt: skip
    assert list(row["f1_weighted"]) == ["value", "low", "high"]
    human = next(r for r in value["rows"] if r["system"] == "human")
    assert (human["log_loss"], human["ece"], human["n"]) == (None, None, 150)


def test_json_round_trip(table: EvaluationTable) -> None:
    again = EvaluationTable.from_json(json.loads(json.dumps(table.to_json("p", "h"))))

    assert again == table
    assert again.content_hash == table.content_hash


def test_text_is_aligned_and_complete(table: EvaluationTable) -> None:
    first, second, note = table.to_text().split("\n\n")

    lines = first.splitlines()
    assert lines[0] == "Support-weighted F1 with 95% intervals"
    assert lines[1].split() == ["system", "all", "(300)", "movies", "(150)", "tweets", "(150)"]
    assert len({len(line) for line in lines[1:]}) == 1
    assert len(lines) == 3 + 8
    assert "log loss" in second
    assert "abstention" in note


def test_narrow_terminal_gets_half_widths(table: EvaluationTable) -> None:
    lines = table.to_text(width=60).splitlines()

    assert all(len(line) <= 90 for line in lines)
    assert "±" in lines[3]
    assert "±" not in table.to_text(width=200)


def test_markdown_is_a_table(table: EvaluationTable) -> None:
    from markdown_it import MarkdownIt

    page = MarkdownIt("js-default").render(table.to_markdown())

    assert page.count("<table>") == 2
    assert page.count("<tr>") == 2 * 9


def test_markdown_of_a_hostile_source_is_inert() -> None:
    gold = np.array([0, 1, 2, 0])
    name = "<img src=x onerror=alert(1)>|x"
    table = evaluate({"vader": SystemPredictions(gold)}, gold, [name] * 4, CLASSES, FAST)

    assert "<img" not in table.to_markdown()


def test_metrics_and_records_are_flat(table: EvaluationTable) -> None:
    metrics = table.metrics("merged_model")
    records = table.records()

    assert metrics["all/f1_weighted"] == table.get("merged_model").f1_weighted.value
    assert "tweets/ece" in metrics
    assert records[0]["system"] == "merged_model"
    assert set(records[0]) == {"system", "all", "movies", "tweets"}


def test_unknown_metric_names_the_known_ones(table: EvaluationTable) -> None:
    with pytest.raises(EvaluationError, match="no such metric") as caught:
        table.rows[0].metric("auc")

    assert "f1_weighted" in str(caught.value)


def test_no_system_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="no system"):
        evaluate({}, np.array([0]), ["a"], CLASSES, FAST)
