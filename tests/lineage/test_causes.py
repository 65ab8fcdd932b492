from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fm_platform.lineage.causes import Before, contents_of, differences
from fm_platform.lineage.records import Input
from tests.lineage.factory import make_recipe

RECIPE = make_recipe(
    kind="adapter",
    name="nyt",
    partition=None,
    inputs=(
        Input("cleaned", "cleaned", "2026-01-09", "a1", "nyt"),
        Input("cleaned", "cleaned", "2026-01-10", "a2", "nyt"),
        Input("start", "shared_start", None, "a3"),
    ),
    config={"training": {"rank": 8, "learning_rate": 0.002}, "classes": ["good", "bad"]},
    seed=0,
)


def before(**changes: Any) -> Before:
    old = replace(RECIPE, **changes)
    return Before(contents_of(old.inputs), old.config, old.code, old.environment, old.seed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": (replace(RECIPE.inputs[0], content_hash="b1"), *RECIPE.inputs[1:])},
         "cleaned 2026-01-09 part nyt changed"),
        ({"inputs": RECIPE.inputs[1:]}, "cleaned 2026-01-09 part nyt is new"),
        ({"inputs": (*RECIPE.inputs, Input("cleaned", "cleaned", "2026-01-01", "c", "nyt"))},
         "cleaned 2026-01-01 part nyt is gone"),
        ({"inputs": (*RECIPE.inputs[:2], replace(RECIPE.inputs[2], content_hash="b"))},
         "start shared_start changed"),
        ({"config": {**RECIPE.config, "training": {"rank": 8, "learning_rate": 0.01}}},
         "configuration changed (training.learning_rate: 0.01 -> 0.002)"),
        ({"config": {**RECIPE.config, "classes": ["good"]}},
         "configuration changed (classes: ['good'] -> ['good', 'bad'])"),
        ({"code": "old"}, "its code changed (fm_platform.training.train)"),
        ({"environment": "old"}, "environment changed (torch: 2.12.0 -> 2.13.0)"),
        ({"seed": 3}, "seed changed (3 -> 0)"),
    ],
)  # fmt: skip
def test_each_cause_has_its_words(changes: dict[str, Any], words: str) -> None:
    def describe(hash_: str) -> Any:
        old = hash_ == "old"
        return {
            "fm_platform.training.train": "1" if old else "2",
            "fm_platform.training.data": "1",
        } if "code" in changes else {
            "python": "3.11", "packages": {"torch": "2.12.0" if old else "2.13.0", "peft": "1"},
        }  # fmt: skip

    assert differences(before(**changes), RECIPE, describe) == words


def test_unknown_fingerprints_still_have_words() -> None:
    words = differences(before(code="old", environment="old"), RECIPE)

    assert words == "its code changed; packages or machine type changed"


def test_edited_function_is_named() -> None:
    new = make_recipe(kind="votes", name="hedges", config={"function": "2", "classes": ["a"]})
    old = Before(None, {"function": "1", "classes": ["a"]}, new.code, new.environment, None)

    assert differences(old, new) == "labeling function hedges changed"


def test_many_causes_are_counted() -> None:
    inputs = tuple(Input("votes", f"f{n}", "2026-01-01", "new") for n in range(30))
    old = tuple(replace(item, content_hash="old") for item in inputs)
    new = make_recipe(inputs=inputs)

    words = differences(Before(contents_of(old), new.config, new.code, new.environment, None), new)

    assert words == (
        "votes f0 2026-01-01, votes f1 2026-01-01, votes f10 2026-01-01 and 27 more changed"
    )
