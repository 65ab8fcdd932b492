"""Configuration, packages and code that differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.stages.diff.settings import (
    ABSENT,
    code_changes,
    leaves,
    package_changes,
    setting_changes,
)
from tests.lineage.factory import make_produced, make_recipe, record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", max_size=1), inner),
    max_leaves=8,
)


def pair(first: dict[str, Any], second: dict[str, Any]) -> tuple[ArtifactVersion, ArtifactVersion]:
    ledger = Ledger.open("sqlite://")
    before = record(ledger, make_recipe(**first))
    return before, record(ledger, make_recipe(**second), make_produced("other"))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({"a": {"b": 1}}, {"a": {}}, [("a.b", 1, ABSENT)]),
        ({"a": [1, 2]}, {"a": [2, 1]}, [("a", [1, 2], [2, 1])]),
        (
            {"rules": [{"rule": "length", "min": 3}, {"rule": "language"}]},
            {"rules": [{"rule": "length", "min": 4}, {"rule": "language"}]},
            [("rules[length].min", 3, 4)],
        ),
        (
            {"s": [{"name": "a"}]},
            {"s": [{"name": "a"}, {"name": "b"}]},
            [("s[b]", ABSENT, {"name": "b"})],
        ),
        (
            {"s": [{"name": "a"}, {"name": "b"}]},
            {"s": [{"name": "b"}, {"name": "a"}]},
            [("s (order)", ["a", "b"], ["b", "a"])],
        ),
    ],
)
def test_leaves_names_each_value_that_differs(before: Any, after: Any, expected: Any) -> None:
    assert [tuple(leaf) for leaf in leaves(before, after)] == expected


@given(JSON, JSON)
def test_leaves_is_empty_exactly_for_equal_values(before: Any, after: Any) -> None:
    found = list(leaves(before, after))

    # an absent mapping and an empty one differ, True and 1 are one number to Python
    assert bool(found) == (before != after)
    assert [(b, a) for _, a, b in leaves(after, before)] == [(a, b) for _, a, b in found]


def test_settings_are_grouped_by_the_kinds_made_with_them() -> None:
    first = pair({"config": {"rank": 8}, "seed": 0}, {"config": {"rank": 16}, "seed": 0})
    second = pair(
        {"kind": "cleaned", "config": {"rank": 8}, "seed": 1},
        {"kind": "cleaned", "config": {"rank": 16}, "seed": 2},
    )

    found = setting_changes([first, second])

    assert [(c.path, c.before, c.after, c.artifacts) for c in found] == [
        ("rank", 8, 16, ("cleaned", "raw")),
        ("seed", 1, 2, ("cleaned",)),
    ]


def test_the_fingerprint_of_a_function_is_no_setting() -> None:
    config = {"classes": ["a"]}
    changed = pair(
        {"kind": "votes", "config": {**config, "function": "1"}},
        {"kind": "votes", "config": {**config, "function": "2"}},
    )

    assert setting_changes([changed]) == ()


def test_packages_that_count_come_first_with_what_they_count_for() -> None:
    documents = {
        "e" * 64: {"python": "3.11", "packages": {"numpy": "2.4.5"}},
        "f" * 64: {"python": "3.11", "packages": {"numpy": "2.4.6"}},
        "all-1": {"packages": {"numpy": "2.4.5", "attrs": "1"}, "lock": "x"},
        "all-2": {"packages": {"numpy": "2.4.6", "attrs": "2"}, "lock": "x"},
    }
    before, after = pair({"environment": "e" * 64}, {"environment": "f" * 64})
    object.__setattr__(before, "run_environment", "all-1")
    object.__setattr__(after, "run_environment", "all-2")

    found = package_changes([(before, after)], (before, after), documents.get)

    assert [(p.name, p.before, p.after, p.artifacts) for p in found] == [
        ("numpy", "2.4.5", "2.4.6", ("raw",)),
        ("attrs", "1", "2", ()),
    ]


def test_code_that_differs_is_named_by_module() -> None:
    documents = {"c" * 64: {"a.b": "1", "a.c": "1"}, "d" * 64: {"a.b": "2", "a.c": "1"}}
    before, after = pair({"code": "c" * 64}, {"code": "d" * 64})

    assert [(c.module, c.artifacts) for c in code_changes([(before, after)], documents.get)] == [
        ("a.b", ("raw",))
    ]
    unknown = code_changes([(before, after)], lambda _: None)
    assert [c.module for c in unknown] == ["(not recorded)"]
