"""Behaviour tests are made from declarations and fail by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fm_platform.errors import EvaluationError
from fm_platform.evaluation.behaviour import BehaviourResult, cases_of, run_behaviour
from fm_platform.spec.behaviour import Behaviour

CLASSES = ("negative", "positive")


def declared(**fields: Any) -> Behaviour:
    return TypeAdapter(Behaviour).validate_python({"name": "test", **fields})


NEGATION = declared(
    kind="functionality", labels="negative", at_least=0.9,
    texts={
        "templates": ["The {thing} is not {good}.", "I do not find the {thing} {good}."],
        "fill": {"thing": ["film", "phone"], "good": ["good", "great"]},
    },
)  # fmt: skip


def deaf_to_negation(texts: list[str]) -> np.ndarray:
    """Answer by the words good and great alone."""
    positive = np.array([0.9 if "good" in t or "great" in t else 0.2 for t in texts])
    return np.stack([1 - positive, positive], axis=1)


def hears_negation(texts: list[str]) -> np.ndarray:
    negated = np.array(["not" in text for text in texts])
    return np.where(negated[:, None], [[0.8, 0.2]], deaf_to_negation(texts))


def run(test: Behaviour, predict: Any = deaf_to_negation, rows: Any = ()) -> BehaviourResult:
    (found,) = run_behaviour([test], predict, CLASSES, rows, seed=0)
    return found


def test_a_model_that_ignores_negation_fails_by_name() -> None:
    found = run(NEGATION)

    assert (found.cases, found.passed, found.ok) == (8, 0, False)
    assert "behaviour test 'test' passes in 0 of 8 cases" in found.told
    assert found.failures[0] == {
        "text": "The film is not good.", "answer": "positive (0.90)",
    }  # fmt: skip
    assert run(NEGATION, hears_negation).ok


def test_every_filling_is_a_case_and_of_too_many_a_seeded_sample() -> None:
    few = NEGATION.model_copy(update={"texts": NEGATION.texts.model_copy(update={"at_most": 3})})

    assert len(cases_of(NEGATION)) == 8
    assert len(cases_of(few)) == 3
    assert cases_of(few) == cases_of(few)
    assert set(cases_of(few)) <= set(cases_of(NEGATION))


def test_invariance_over_rows_keeps_ids_and_no_text() -> None:
    test = declared(
        kind="invariance", texts={"rows": 10}, change={"replace": {"good": ["fine"]}}, at_least=0.5
    )
    rows = [("r1", "A good film"), ("r2", "A GOOD, good film"), ("r3", "goodness"), ("r4", "bad")]

    found = run(test, rows=rows)

    assert found.cases == 2  # r3 holds no such word, r4 neither
    assert found.passed == 0
    assert found.failures == (
        {"row_id": "r1", "answer": "positive (0.90)", "after": "negative (0.80)"},
    ) or {failure["row_id"] for failure in found.failures} == {"r1", "r2"}
    assert "film" not in str(found.to_json())


@pytest.mark.parametrize(
    ("moves", "end", "passed"),
    [("up", " It is great.", 1), ("down", " It is great.", 0), ("down", " Hm.", 1)],
)
def test_direction_is_held_against_the_probability(moves: str, end: str, passed: int) -> None:
    test = declared(
        kind="direction", label="positive", moves=moves, change={"append": [end]},
        texts={"templates": ["A film."]},
    )  # fmt: skip

    assert run(test).passed == passed


def test_a_test_without_a_case_is_an_error() -> None:
    test = declared(kind="invariance", texts={"rows": 5}, change={"replace": {"x": ["y"]}})

    with pytest.raises(EvaluationError, match="has no case"):
        run(test, rows=[("r1", "nothing here")])


@given(st.text(max_size=60), st.integers(1, 5))
def test_typos_exchange_letters_and_lose_none(text: str, typos: int) -> None:
    test = declared(kind="invariance", texts={"rows": 1}, change={"typos": typos})

    for case in cases_of(test, [("r", text)]):
        assert case.changed is not None
        assert case.changed != case.text
        assert sorted(case.changed) == sorted(text)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"texts": {}}, "declare one"),
        ({"texts": {"templates": ["a"], "rows": 3}}, "declare one"),
        ({"texts": {"templates": ["a {b}"]}}, "nothing fills {b}"),
        ({"texts": {"templates": ["a"], "fill": {"b": ["c"]}}}, "no template has a place for b"),
        ({"texts": {"rows": 3}, "kind": "invariance", "change": {}}, "a change alters something"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_test_is_refused(fields: dict[str, Any], told: str) -> None:
    whole = {"kind": "functionality", "labels": ["negative"], **fields}
    if whole["kind"] != "functionality":
        del whole["labels"]
    with pytest.raises(ValidationError, match=told):
        declared(**whole)
