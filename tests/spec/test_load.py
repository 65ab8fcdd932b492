"""A project file is refused with all its mistakes at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform.errors import SpecError
from fm_platform.spec.load import load_spec, parse_spec

GOOD = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01}
  sources:
    - {name: main, connector: files, options: {path: rows.csv}}
"""

FIVE_MISTAKES = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-10, end: 2026-01-01}
  sources:
    - {name: main, connector: files}
  experts:
    - {name: one, sources: [other]}
  training: {rnk: 8, learning_rate: 5}
  merge: {method: magic}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "defs.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file_gets_sensible_defaults() -> None:
    spec = parse_spec(GOOD, "defs.yaml")

    assert [expert.name for expert in spec.experts] == ["all"]
    assert spec.cleaning[0].rule == "normalize_text"


def test_five_mistakes_are_reported_at_once_with_their_lines() -> None:
    found = problems(FIVE_MISTAKES)

    assert [line.split(": ")[0] for line in found] == [
        "defs.yaml:5", "defs.yaml:9", "defs.yaml:10", "defs.yaml:10", "defs.yaml:11",
    ]  # fmt: skip
    assert "unknown source 'other'; allowed: main" in found[1]
    assert any("did you mean 'rank'?" in line for line in found)
    assert "'linear' or 'ties'" in found[4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("a: [1", "not YAML"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("type: a\ntype: b\n", "stands here twice"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("a: " + "[" * 100 + "]" * 100, "deeper than 64"),
        ("a: [&x 1, " + ", ".join(["*x"] * 9) + "]", "aliases"),
        ("- 1\n", "attributes: a mapping is required"),
    ],
)
def test_what_is_no_project_file_is_refused(text: str, says: str) -> None:
    assert says in problems(text)[0]


def test_an_unknown_field_of_the_file_gets_a_suggestion() -> None:
    found = problems(GOOD + "atributes: 1\n")

    assert "did you mean 'attributes'?" in found[0]


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "defs.yaml"
    path.write_bytes(b"type: x\nname: \xff\n")

    with pytest.raises(SpecError, match=r"defs.yaml:2: not UTF-8"):
        load_spec(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path / "defs.yaml")


def test_a_source_may_not_take_a_word_that_means_something() -> None:
    assert "the word is taken" in problems(GOOD.replace("name: main", "name: gold"))[0]


def test_the_shipped_project_loads() -> None:
    root = Path(__file__).resolve().parents[2]

    spec = load_spec(root / "assets" / "defs" / "sentiment" / "defs.yaml").spec

    assert [expert.name for expert in spec.experts] == ["tweets", "movies", "amazon", "nyt"]
    assert spec.gold.dev_rows_per_source <= 50
