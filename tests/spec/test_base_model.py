"""One base model, or candidates for it, as a person declares them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fm_platform.errors import SpecError
from fm_platform.spec.load import parse_spec
from fm_platform.spec.models import BaseModelSpec, DeclaredBase

FILE = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [a, b]}
  calendar: {start: 2026-01-01}
  sources: [{name: mail, options: {path: "*.jsonl"}}]
  base_model:
    candidates:
      - {location: one}
      - {location: two, revision: v2, license: mit}
    probe: short_run
"""


def test_the_first_candidate_stands_in_until_one_is_chosen() -> None:
    declared = parse_spec(FILE, "defs.yaml").base_model
    assert declared.location == "one"
    assert [base.label for base in declared.bases] == ["one", "two@v2"]
    assert declared.at("two").license == "mit"
    assert DeclaredBase.model_validate(declared.model_dump(mode="json")) == declared


def test_one_base_is_declared_as_ever() -> None:
    declared = DeclaredBase(location="one")
    assert declared.bases == (declared,)
    settled = DeclaredBase.model_validate({"candidates": [{"location": "a"}, {"location": "b"}]})
    assert settled.as_one(settled.candidates[1]) == DeclaredBase(location="b")


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"candidates": [{"location": "a"}]}, "two candidates at least"),
        ({"candidates": [{"location": "a"}, {"location": "a"}]}, "each declared once"),
        ({"candidates": [{"location": "a"}, {"location": "b"}], "license": "mit"}, "with each"),
        ({"location": "a", "probe": "separability"}, "one of several `candidates`"),
        ({"candidates": [{"location": "a"}, {"location": "b"}], "every": 0}, "greater than"),
    ],
)
def test_what_makes_no_sense_is_refused(declared: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DeclaredBase.model_validate(declared)


def test_mistakes_in_candidates_are_told_with_their_lines() -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec(FILE.replace("license", "licence").replace("short_run", "embeddings"), "x.yaml")
    assert [(p.line, p.path) for p in refused.value.problems] == [
        (10, "base_model.candidates[1].licence"), (11, "base_model.probe"),
    ]  # fmt: skip
    assert "did you mean 'license'" in refused.value.problems[0].message


def test_a_causal_project_declares_one_base() -> None:
    causal = FILE.replace("  taxonomy: {classes: [a, b]}\n", "  task: causal\n")
    with pytest.raises(SpecError, match="a causal project declares one base"):
        parse_spec(causal, "defs.yaml")


def test_a_base_is_called_by_its_location_and_revision() -> None:
    assert BaseModelSpec(location="hub/model", revision="abc").label == "hub/model@abc"


@pytest.mark.parametrize(
    ("location", "told"),
    [("/srv/models/mine", "mine"), ("~/mine", "mine"), ("package:p/model", "package:p/model"),
     ("org/name", "org/name")],
)  # fmt: skip
def test_what_others_read_names_no_folder_of_a_machine(location: str, told: str) -> None:
    assert BaseModelSpec(location=location).public == told
