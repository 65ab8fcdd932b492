from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.lineage.records import Input, Recipe
from tests.lineage.factory import make_recipe

WORDS = st.text(max_size=12)
HASHES = st.text("0123456789abcdef", min_size=4, max_size=4)
INPUTS = st.builds(Input, WORDS, WORDS, st.none() | WORDS, HASHES, st.none() | WORDS)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | st.integers() | FLOATS | WORDS
CONFIGS = st.dictionaries(
    WORDS, st.recursive(LEAVES, lambda c: st.lists(c, max_size=3)), max_size=5
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    return Recipe(
        project=draw(WORDS),
        kind=draw(WORDS),
        name=draw(WORDS),
        partition=draw(st.none() | st.text(min_size=1, max_size=9)),
        inputs=tuple(draw(st.lists(INPUTS, max_size=5))),
        code=draw(HASHES),
        config=draw(CONFIGS),
        environment=draw(HASHES),
        seed=draw(st.none() | st.integers(0, 2**31)),
    )


@given(recipes(), st.randoms(use_true_random=False))
def test_hash_does_not_depend_on_order(recipe: Recipe, rng: Any) -> None:
    items = list(recipe.config.items())
    inputs = list(recipe.inputs)
    rng.shuffle(items)
    rng.shuffle(inputs)

    assert replace(recipe, config=dict(items), inputs=tuple(inputs)).hash == recipe.hash


@given(
    recipes(),
    st.sampled_from(["project", "kind", "name", "partition", "code", "environment", "seed"]),
)
def test_hash_is_sensitive_to_each_plain_field(recipe: Recipe, field: str) -> None:
    value = getattr(recipe, field)
    other = (value or 0) + 1 if field == "seed" else f"{value or ''}x"

    assert replace(recipe, **{field: other}).hash != recipe.hash


@given(recipes(), WORDS, LEAVES)
def test_hash_is_sensitive_to_each_setting(recipe: Recipe, key: str, value: Any) -> None:
    changed = {**recipe.config, key: [value, "other"]}

    assert (replace(recipe, config=changed).hash == recipe.hash) == (
        key in recipe.config and recipe.config[key] == [value, "other"]
    )


@given(
    recipes(),
    INPUTS,
    st.sampled_from(["role", "name", "partition", "part", "content_hash"]),
)
def test_hash_is_sensitive_to_each_field_of_an_input(
    recipe: Recipe, item: Input, field: str
) -> None:
    with_item = replace(recipe, inputs=(*recipe.inputs, item))
    other = replace(item, **{field: f"{getattr(item, field) or ''}x"})

    assert with_item.hash != recipe.hash
    assert replace(recipe, inputs=(*recipe.inputs, other)).hash != with_item.hash


@given(INPUTS)
def test_which_version_held_the_content_is_no_part_of_the_hash(item: Input) -> None:
    recipe = make_recipe(inputs=(item,))

    assert make_recipe(inputs=(replace(item, version_id=7),)).hash == recipe.hash


def test_fields_cannot_flow_into_each_other() -> None:
    one = make_recipe(inputs=(Input("a", "b c", None, "00"),))
    other = make_recipe(inputs=(Input("a b", "c", None, "00"),))
    newline = make_recipe(inputs=(Input('x"]\n["y', "c", None, "00"),))

    assert len({one.hash, other.hash, newline.hash}) == 3


def test_part_that_is_not_there_is_an_error() -> None:
    from fm_platform.lineage.ledger import Ledger
    from tests.lineage.factory import make_produced, record

    version = record(Ledger.open("sqlite://"), make_recipe(), make_produced(parts={"mail": "ab"}))

    assert version.as_input("raw", "mail").content_hash == "ab"
    assert version.as_input("raw").version_id == version.id
    with pytest.raises(KeyError):
        version.as_input("raw", "chat")
