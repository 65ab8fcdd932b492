"""Prompt functions: votes of a language model, asked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from fm_platform.errors import BaseModelError, FunctionFailureError
from fm_platform.labeling import ABSTAIN, LabelingFunction
from fm_platform.labeling.apply import apply_function
from fm_platform.labeling.asking import AskingContext, Tally
from fm_platform.labeling.declared import compile_declared
from fm_platform.spec.models import PromptFunction
from fm_platform.store.answers import AnswerStore
from fm_platform.training.prompts import decide
from tests.support.tiny_causal import build_tiny_causal

CLASSES = ("negative", "positive")
TEXTS = ["good film", "the food was very dull", None, "good film", "one two", "it was fine ."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_causal(tmp_path_factory.mktemp("causal"))


def asks(folder: Path, **more: Any) -> PromptFunction:
    settings: dict[str, Any] = {
        "kind": "prompt", "name": "mood", "model": str(folder), "minimum_margin": 0.0,
        "template": "review : {text} . mood :",
        "answers": {"positive": ["good", "very fine"], "negative": ["bad"]},
    }  # fmt: skip
    return PromptFunction.model_validate(settings | more)


def votes(
    function: LabelingFunction, answers: Path | None = None, texts: list[str | None] = TEXTS
) -> tuple[list[int], Tally]:
    context = AskingContext(answers=answers)
    source = ["film"] * len(texts)
    rows = {"row_id": [str(i) for i in range(len(texts))], "text": texts, "source": source}
    column = apply_function(function, [pa.record_batch(rows)], CLASSES, context)
    return column.votes.tolist(), context.tally


def test_the_likeliest_answer_is_the_vote(model: Path, tmp_path: Path) -> None:
    function = compile_declared(asks(model), tmp_path)

    told, tally = votes(function)

    assert set(told[:2]) | set(told[3:]) == {0, 1}
    assert told[2] == ABSTAIN
    assert told[0] == told[3]
    assert (tally.asked, tally.from_cache) == (4 + 3, 1)  # three are prompts without content


def test_a_second_run_asks_nothing_and_a_new_row_asks_one_question(
    model: Path, tmp_path: Path
) -> None:
    function, answers = compile_declared(asks(model), tmp_path), tmp_path / "answers.db"
    first, _ = votes(function, answers)

    again, tally = votes(function, answers)
    _, more = votes(function, answers, ["food", *TEXTS])

    assert again == first
    assert (tally.asked, tally.from_cache) == (0, 8)
    assert more.asked == 1
    assert AnswerStore(answers).count() == 4 + 3 + 1


def test_only_what_changes_the_question_is_asked_anew(model: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.db"
    votes(compile_declared(asks(model), tmp_path), answers)

    def asked(**change: Any) -> int:
        return votes(compile_declared(asks(model, **change), tmp_path), answers)[1].asked

    assert asked(minimum_margin=0.5) == 0
    assert asked(calibrate=False) == 0
    assert asked(template="{source} : {text} . mood :") == 7
    assert asked(answers={"positive": ["good"], "negative": ["bad"]}) == 7


def test_the_fingerprint_is_of_the_model_and_not_of_its_place(model: Path, tmp_path: Path) -> None:
    moved = build_tiny_causal(tmp_path / "moved")
    other = build_tiny_causal(tmp_path / "other", seed=1)
    one = compile_declared(asks(model), tmp_path).fingerprint

    assert compile_declared(asks(moved), tmp_path).fingerprint == one
    assert compile_declared(asks(other), tmp_path).fingerprint != one
    assert compile_declared(asks(model, minimum_margin=0.5), tmp_path).fingerprint != one


def test_a_model_of_another_hash_is_refused(model: Path, tmp_path: Path) -> None:
    declared = asks(model, model={"location": str(model), "weights_sha256": "0" * 64})

    with pytest.raises(BaseModelError, match="not the declared ones"):
        compile_declared(declared, tmp_path)


def test_a_damaged_answer_is_asked_again(model: Path, tmp_path: Path) -> None:
    function, answers = compile_declared(asks(model), tmp_path), tmp_path / "answers.db"
    first, _ = votes(function, answers)
    data = answers.read_bytes()
    answers.write_bytes(b"no database" + data[11:])

    again, tally = votes(function, answers)

    assert again == first
    assert tally.asked == 7
    assert (tmp_path / "_damaged" / "answers.db").is_file()


def test_a_long_column_is_cut_and_a_long_template_refused(model: Path, tmp_path: Path) -> None:
    short = compile_declared(asks(model, max_tokens=16), tmp_path)
    told, _ = votes(short, None, ["good film " * 200])
    assert told[0] in (0, 1)

    endless = asks(model, max_tokens=16, template="very " * 40 + "{text} :")
    with pytest.raises(FunctionFailureError, match="a prompt is longer"):
        votes(compile_declared(endless, tmp_path), None, ["good"])


def test_a_small_lead_is_no_vote() -> None:
    scores = np.log([[0.5, 0.5], [0.5, 0.4], [0.1, 0.8]])

    chosen, margin = decide(scores, [1, 1])

    assert chosen.tolist() == [0, 0, 1]
    assert margin[0] == -1
    np.testing.assert_allclose(margin[1:], [1 / 9, 7 / 9])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"template": "no column :"}, "names a column"),
        ({"template": "{text}"}, "ends in words"),
        ({"template": "{text.upper} :"}, "name of a column, and nothing else"),
        ({"template": "{text:>9} :"}, "name of a column, and nothing else"),
        ({"answers": {"positive": ["ok"], "negative": ["ok"]}}, "means one class"),
    ],
)
def test_a_wrong_prompt_is_refused_where_it_is_declared(
    model: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        asks(model, **change)
