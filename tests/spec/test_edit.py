"""Labeling functions added to a project file as a person would."""

from __future__ import annotations

import pytest
import yaml

from fm_platform.errors import FMError
from fm_platform.spec.edit import with_functions

ADDED = {"kind": "keyword", "name": "new", "words": ["a b", "it's"], "label": "good"}
LISTED = """\
# a comment of the head
type: assets.project.ContinuousTraining
attributes:
  name: shop   # its name
  labeling:
    functions:
      # the first one
      - kind: regex
        name: old
        pattern: '(a|b)'   # odd
        label: good
      # what comes below belongs to the model
    label_model: {per_source: true}

  cleaning: []
"""


def test_functions_are_added_below_the_others_and_nothing_else_changes() -> None:
    text = with_functions(LISTED, [ADDED])

    assert [line for line in text.splitlines() if line not in LISTED.splitlines()] == [
        "      - kind: keyword",
        "        name: new",
        "        words: [a b, it's]",
    ]
    assert yaml.safe_load(text)["attributes"]["labeling"]["functions"][1] == ADDED
    assert text.index("odd") < text.index("name: new") < text.index("what comes below")


@pytest.mark.parametrize(
    "text",
    [
        "type: x\nattributes:\n  name: a\n  labeling:\n    module: m.py  # ours\n  cleaning: []\n",
        "type: x\nattributes:\n  name: a  # no end of line",
        "type: x\nattributes:\n- never\n".replace("- never", "  name: >-\n    folded\n    text"),
    ],
)
def test_a_list_that_is_not_there_is_begun(text: str) -> None:
    after = with_functions(text, [ADDED, {**ADDED, "name": "other"}])

    named = [f["name"] for f in yaml.safe_load(after)["attributes"]["labeling"]["functions"]]
    assert named == ["new", "other"]
    assert all(line in after for line in text.splitlines())


def test_a_list_in_one_line_is_left_to_a_person() -> None:
    text = "attributes:\n  labeling: {functions: [{kind: regex}]}\n"

    with pytest.raises(FMError, match=r"(?s)one below the other.*- kind: keyword"):
        with_functions(text, [ADDED])
