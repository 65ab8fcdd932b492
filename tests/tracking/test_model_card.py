"""The card is a valid card, complete, and inert."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from fm_platform.errors import TrackingError
from fm_platform.evaluation.metrics import SystemPredictions
from fm_platform.evaluation.table import EvaluationTable, evaluate
from fm_platform.spec.models import Evaluation
from fm_platform.tracking.model_card import (
    CardExpert,
    CardFunction,
    CardInput,
    ModelCardInputs,
    write_card,
)
from tests.test_display import PAYLOADS, parsed


@pytest.fixture(scope="module")
def table() -> EvaluationTable:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 100)
    model = SystemPredictions(probabilities.argmax(axis=1), probabilities)
    gold = rng.integers(0, 3, 100)
    return evaluate(
        {"merged_model": model, "vader": SystemPredictions(gold)},
        gold, ["tweets", "nyt"] * 50, ("a", "b", "c"), Evaluation(bootstrap_samples=100),
    )  # fmt: skip


@pytest.fixture
def inputs(table: EvaluationTable) -> ModelCardInputs:
    return ModelCardInputs(
        project="sentiment",
        description="Sentiment of short texts.",
        classes=("negative", "neutral", "positive"),
        taxonomy_version=1,
        base_model="sentence-transformers/all-MiniLM-L6-v2",
        base_model_hash="a" * 64,
        language=("en",),
        license="apache-2.0",
        recipe_hash="b" * 64,
        merge_method="linear",
        experts=(
            CardExpert("tweets", ("tweets",), 0.5, "c" * 64),
            CardExpert("nyt", ("nyt",), 0.5, "d" * 64),
        ),
        inputs=(CardInput("cleaned/2026-01-01", "e" * 64, 1234),),
        functions=(CardFunction("vader", 0.9, 0.7, 0.6, 0.8), CardFunction("rare", 0.01)),
        git_commit="0123abc",
        created_at="2026-01-02T03:04:05+00:00",
        evaluation=table,
        evaluation_hash="f" * 64,
        links={"MLflow": "http://127.0.0.1:5000/#/models/sentiment/versions/1"},
    )


def test_card_has_the_metadata_that_the_hub_reads(inputs: ModelCardInputs) -> None:
    data = ModelCard(write_card(inputs)).data

    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert data.language == ["en"]
    assert data.license == "apache-2.0"
    assert data.model_name == "sentiment"
    results = data.eval_results
    assert len(results) == 3 * 5
    weighted = next(r for r in results if r.metric_name == "support-weighted F1")
    assert weighted.metric_value == inputs.evaluation.get("merged_model").f1_weighted.value
    assert weighted.dataset_revision == "f" * 64


def test_body_names_inputs_experts_functions_and_hashes(inputs: ModelCardInputs) -> None:
    text = write_card(inputs)

    for expected in ("e" * 64, "b" * 64, "1,234 rows", "0.70 (0.60-0.80)", "0123abc", "linear"):
        assert expected in text
    page = MarkdownIt("js-default").render(ModelCard(text).content.split("---\n", 2)[2])
    assert page.count("<table>") == 5


@pytest.mark.parametrize(
    ("method", "told", "is_lora"),
    [
        ("lora", "One LoRA adapter per expert was trained on weak labels", True),
        ("rslora", "One rsLoRA adapter per expert was trained on weak labels", True),
        ("full", "All weights were fine-tuned for each expert on weak labels", False),
        ("fish", "(a FISH mask) were trained for each expert on weak labels", False),
        ("head", "A linear head was trained for each expert on weak labels", False),
    ],
)
def test_the_card_says_how_experts_were_trained(
    inputs: ModelCardInputs, method: str, told: str, is_lora: bool
) -> None:
    text = write_card(dataclasses.replace(inputs, training_method=method))

    assert told in text
    assert ("lora" in ModelCard(text).data.tags) is is_lora
    assert ("LoRA" in text) is is_lora


def test_card_without_evaluation_says_so(inputs: ModelCardInputs) -> None:
    text = write_card(dataclasses.replace(inputs, evaluation=None, evaluation_hash=None))

    assert "Not evaluated yet" in text
    assert "model-index" not in text


@pytest.mark.parametrize(
    "field",
    [
        "project", "description", "classes", "base_model", "base_model_hash", "language",
        "license", "recipe_hash", "merge_method", "experts", "inputs", "git_commit", "created_at",
    ],
)  # fmt: skip
def test_missing_field_is_refused_by_name(inputs: ModelCardInputs, field: str) -> None:
    empty = () if isinstance(getattr(inputs, field), tuple) else ""

    with pytest.raises(TrackingError) as caught:
        write_card(dataclasses.replace(inputs, **{field: empty}))

    assert field in str(caught.value.expected)


def test_all_missing_fields_are_named_at_once(inputs: ModelCardInputs) -> None:
    broken = dataclasses.replace(inputs, license="", git_commit=" ", recipe_hash="x")

    with pytest.raises(TrackingError, match="needs values") as caught:
        write_card(broken)

    assert caught.value.expected == "license, git_commit, recipe_hash (64 hex digits)"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_names_stay_text(inputs: ModelCardInputs, payload: str) -> None:
    hostile = dataclasses.replace(
        inputs,
        description=payload,
        classes=(payload, "x"),
        experts=(CardExpert(payload, (payload,), 1.0, "c" * 64),),
        inputs=(CardInput(payload, payload),),
        functions=(CardFunction(payload, 0.5),),
        git_commit=payload,
        limits=(payload,),
        links={payload: "http://a.b/", "x": payload},
    )
    body = write_card(hostile).split("---\n", 2)[2]

    page = parsed(MarkdownIt("js-default", {"html": True}).render(body))
    assert set(page.tags) <= {
        "h1", "h2", "p", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "a"
    }  # fmt: skip
    links = {value for name, value in page.attributes if name == "href"}
    assert links <= {"http://a.b/", "https://evil.example/"}
    if payload != "https://evil.example/":
        assert links == {"http://a.b/"}
    assert {name for name, _ in page.attributes} <= {"href", "class", "style"}
