"""What a person may declare of the rows that are trained on, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fm_platform.spec.checks import cross_problems
from fm_platform.spec.training import Training


@pytest.mark.parametrize(
    "declared",
    [
        {"loss": "hinge"}, {"loss_q": 0.0}, {"loss_q": 1.5}, {"subset": 0.0}, {"subset": 1.1},
        {"subset_by": "value"}, {"auto": {"subsets": [0.0]}}, {"auto": {"subsets": [1.0, 1.0]}},
        {"auto": {"losses": ["soft", "soft"]}}, {"auto": {"judge": "test"}},
        {"continue": {}, "subset": 0.5}, {"continue": {}, "auto": {"subsets": [1.0, 0.5]}},
        {"narrow_gap": {}, "loss": "generalised"}, {"narrow_gap": {}, "weights": "class"},
        {"narrow_gap": {}, "auto": {"weights": ["none", "source"]}},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(declared: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Training.model_validate(declared)


@pytest.mark.parametrize(
    ("declared", "covers"),
    [
        ({}, False),
        ({"subset": 0.5}, True),
        ({"subset": 0.5, "subset_by": "certainty"}, False),
        ({"auto": {"subsets": [0.5]}}, False),  # nothing is tried
        ({"method": "auto", "auto": {"subsets": [1.0, 0.5]}}, True),
    ],
)
def test_embeddings_are_read_only_for_coverage(declared: dict[str, Any], covers: bool) -> None:
    assert Training.model_validate(declared).covers is covers


@pytest.mark.parametrize("name", ["loss", "weights", "subset"])
def test_a_causal_project_has_no_weak_labels_to_mistrust(name: str) -> None:
    value = {"loss": "generalised", "weights": "class", "subset": 0.5}[name]
    data = {"task": "causal", "contract": {"columns": {"answer": {}}}, "training": {name: value}}

    assert ("training", name) in [place for place, _ in cross_problems(data)]
    usual = {**data, "training": {}}
    assert ("training", name) not in [place for place, _ in cross_problems(usual)]
